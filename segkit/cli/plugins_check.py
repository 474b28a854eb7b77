"""segkit plugins check: what installed components promise, tried."""

from dataclasses import asdict

import click

from segkit.cli.common import (
    Verb,
    component_parameters,
    echo_json,
    echo_table,
    examples,
    json_option,
    note,
    progress,
    set_option,
)

EXAMPLES = examples("segkit plugins check segkit-waterz", "segkit plugins check segkit-em watershed")


@click.command("check", cls=Verb, epilog=EXAMPLES)
@click.argument("distribution")
@click.argument("name", required=False)
@click.option("--kind", metavar="KIND", help="Check only these: models, losses, fragmenters, agglomerators or metrics.")
@set_option
@json_option
@click.pass_context
def check(
    ctx: click.Context,
    distribution: str,
    name: str | None,
    kind: str | None,
    assignments: tuple[str, ...],
    as_json: bool,
) -> list[dict]:
    """Test whether the components of DISTRIBUTION, or the one called NAME, keep what their plug point promises.

    Each runs in a process of its own, with --set where given: large networks may want fewer features. The exit code
    is 1 if a promise is broken.
    """
    from segkit.testing.check import FAILS, components_of, require_libraries
    from segkit.testing.check import check as check_one

    require_libraries()
    found = components_of(distribution, kind, name)
    values = component_parameters(assignments)
    rows = []
    with progress(f"checking {distribution}") as report:
        for number, component in enumerate(found):
            report(number, len(found), component.title)
            head = {"kind": component.kind, "name": component.name}
            rows.append([head | asdict(finding) for finding in check_one(component, values)])
        report(len(found), len(found))
    flat = [row for part in rows for row in part]
    if as_json:
        echo_json(flat)
    else:
        for component, part in zip(found, rows, strict=True):
            echo_table(component.title, [{key: row[key] for key in ("promise", "result", "reason")} for row in part])
    broken = sum(row["result"] == FAILS for row in flat)
    note(f"{distribution}: {broken} of {len(flat)} promises broken" if broken else f"{distribution}: all promises hold")
    ctx.exit(1 if broken else 0)
