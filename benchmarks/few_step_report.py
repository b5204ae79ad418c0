"""The tables of few-step accuracy."""

from __future__ import annotations

from typing import Any

from few_step import SPECIAL

NAMES = {"rmse": "RMSE", "median": "median error", "both": "both (geometric mean)"}


def number(x: float) -> str:
    return f"{x:.2g}" if x < 0.1 else f"{x:.2f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(
        "| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows]
    )


def markdown(result: dict[str, Any]) -> str:
    parts = []
    choosing, checking = result["choosing"], result["checking"]
    for measure, name in NAMES.items():
        head = ["evaluations", *map(str, choosing)]
        rows = [
            [
                "our best / peers' best",
                *(f"{row[measure]['ours/peers']:.2f}" for row in choosing.values()),
            ]
        ]
        for which, data in result.items():
            for mine in SPECIAL:
                ratios = [f"{row[measure][mine + '/single_peer']:.2f}" for row in data.values()]
                rows.append([f"{mine} / best single peer, {which}", *ratios])
        parts.append(f"### {name}\n\n" + table(head, rows))
    head = ["evaluations", "auto", "best single peer", "next", "next", "our best single setting"]
    for which, data in (("choosing", choosing), ("checking", checking)):
        rows = []
        for nfe, row in data.items():
            part = row["both"]
            cells = [f"{name} {number(e)}" for name, e in part["single_peers"][:3]]
            mine = part.get("single_ours", [])[:1]
            rows.append(
                [
                    str(nfe),
                    number(part["auto"]),
                    *cells,
                    *[f"{name} {number(e)}" for name, e in mine],
                ]
            )
        parts.append(
            f"### Single settings on the {which} problems\n\n"
            + table(head[: 5 + (which == "choosing")], rows)
        )
    rows = []
    for nfe, row in choosing.items():
        for where, found in row["both"]["problems"].items():
            (mine, mine_name), (theirs, theirs_name) = found["ours"], found["peers"]
            rows.append(
                [
                    str(nfe),
                    where,
                    f"{mine_name} {number(mine)}",
                    f"{theirs_name} {number(theirs)}",
                    f"{mine / theirs:.2f}",
                ]
            )
    parts.append(
        "### The best on each problem\n\n"
        + table(["evaluations", "problem", "ours", "peers'", "ratio"], rows)
    )
    return "\n\n".join(parts)


def network_markdown(found: dict[int, dict[str, float]]) -> str:
    names = list(next(iter(found.values())))
    rows = [
        [name, *(number(row[name]) if name in row else "-" for row in found.values())]
        for name in names
    ]
    return table(["evaluations", *map(str, found)], rows)
