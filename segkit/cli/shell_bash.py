"""Completion in bash, whose own splitting of words at ":" and "=" and whose quotes click does not know."""

import os
from dataclasses import dataclass

from click.shell_completion import BashComplete, CompletionItem, add_completion_class

SCRIPT = r"""
%(complete_func)s() {
    local line kind value
    COMPREPLY=()
    while IFS= read -r line; do
        kind=${line%%%%,*} value=${line#*,}
        case $kind in
            file) compopt -o default ;;
            dir) compopt -o dirnames ;;
            part) compopt -o nospace; COMPREPLY+=("$value") ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(COMP_LINE=$COMP_LINE COMP_POINT=$COMP_POINT COMP_WORDBREAKS=$COMP_WORDBREAKS \
        %(complete_var)s=bash_complete "$1" 2>/dev/null)
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""
SPECIAL = frozenset(" \t\\'\"`$&|;<>()*?[]{}!#~")
"""Characters that a backslash must precede in a word that stands for itself."""
OPEN_ENDED = ("/", "=", ":", ".")
"""What ends a completion that goes on: no space follows."""


@dataclass
class Word:
    """A word of the command line as far as it is typed."""

    value: str = ""
    """What it means, without quotes."""
    start: int = 0
    """Where in the value the part begins that bash exchanges: after the last break, or in the open quotes."""
    quote: str = ""
    """The quote that is still open."""


def split_line(line: str, breaks: str) -> list[Word]:
    """Split a line as bash does; the last word is the one to complete, empty after a space.

    >>> [(word.value, word.start) for word in split_line("segkit infer my\\\\ a.h5:vol", ":=")]
    [('segkit', 0), ('infer', 0), ('my a.h5:vol', 8)]
    """
    words, word, escaped = [Word()], Word(), False
    words[-1] = word
    for character in line:
        if escaped:
            word.value, escaped = word.value + character, False
        elif character == "\\" and word.quote != "'":
            escaped = True
        elif word.quote:
            if character == word.quote:
                word.quote = ""
            else:
                word.value += character
        elif character in "'\"":
            word.quote, word.start = character, len(word.value)
        elif character in " \t\n":
            if words[-1].value:
                words.append(Word())
            word = words[-1]
        else:
            word.value += character
            if character in breaks:
                word.start = len(word.value)
    return words


def quoted(text: str, quote: str) -> str:
    """`text` as it is typed, inside `quote` if one is open; "~/" at its start stays what it is.

    >>> quoted("~/my file", ""), quoted("my file", "'")
    ('~/my\\\\ file', 'my file')
    """
    if quote:
        return text
    home = "~/" if text.startswith("~/") else ""
    return home + "".join(f"\\{each}" if each in SPECIAL else each for each in text[len(home) :])


class Bash(BashComplete):
    """Takes the line as it is typed, and answers with what bash puts in the place of the part that it exchanges."""

    source_template = SCRIPT

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one to complete, and that."""
        line = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
        words = split_line(line, os.environ.get("COMP_WORDBREAKS", ""))
        self.word = words[-1]
        return [word.value for word in words[1:-1]], self.word.value

    def format_completion(self, item: CompletionItem) -> str:
        """The kind of an item, and the text that bash inserts."""
        if item.type in ("file", "dir"):
            return f"{item.type},"
        option, equals, _ = self.word.value.partition("=")
        before = option + equals if equals and option.startswith("--") else ""  # click completes what follows
        text = quoted((before + item.value)[self.word.start :], self.word.quote)
        return f"{'part' if item.value.endswith(OPEN_ENDED) else 'plain'},{text}"


add_completion_class(Bash)
