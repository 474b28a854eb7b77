"""What a search came to, as plain values: a row for each combination, and each volume with what the others choose."""

from collections.abc import Mapping, Sequence
from typing import Any

from segkit.tune.choose import Goal, Row, left_out, wins
from segkit.tune.search import Record, title
from segkit.tune.space import Combination, Space

PARTS = ("fragmenter", "agglomerator")


def table(space: Space, records: Sequence[Record], rows: Sequence[Row], goal: Goal) -> list[dict[str, Any]]:
    """Return as plain values what :func:`segkit.tune.ranked` gives, the best first."""
    return [_row(space.combinations[row.number], records[row.number], row, goal, rows[0]) for row in rows]


def table_of_left_out(
    space: Space, records: Sequence[Record], goal: Goal, volumes: Sequence[str]
) -> list[dict[str, Any]]:
    """Return a row for each of several volumes: what the others choose, and what it comes to on this one."""
    return [
        {
            "volume": volumes[found["volume"]],
            "chosen_by_others": title(space.combinations[found["number"]]),
            "threshold": found["threshold"],
            goal.by: goal.shown(found["chosen"]),
            "best": goal.shown(found["best"]),
        }
        for found in left_out(records, space.neighbours, goal)
    ]


def problems(space: Space, records: Sequence[Record]) -> dict[str, list[str]]:
    """Return the names of the combinations that failed, by their problem."""
    found: dict[str, list[str]] = {}
    for combination, record in zip(space.combinations, records, strict=True):
        if "problem" in record:
            found.setdefault(record["problem"], []).append(title(combination))
    return found


def _row(combination: Combination, record: Mapping[str, Any], row: Row, goal: Goal, first: Row) -> dict[str, Any]:
    named: dict[str, Any] = {what: record[what]["name"] for what in PARTS}
    named |= {f"{what}_parameters": dict(getattr(combination, what).parameters) for what in PARTS}
    figures = {"around": row.value} | {name: getattr(row, name) for name in ("mean", "worst", "best", "oracle")}
    shown = {name: goal.shown(cost) for name, cost in figures.items()}
    counted = {"fragments": sum(volume["fragments"] for volume in record["volumes"])}
    found = named | {"threshold": row.threshold} | shown | {"spread": row.spread, "wins": wins(row, first)}
    return found | row.scores | counted | {"seconds": record["seconds"]}
