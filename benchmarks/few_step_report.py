"""The tables and the picture of few-step accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from few_step import SPECIAL

NAMES = {"rmse": "RMSE", "median": "median error", "both": "both (geometric mean)"}


def number(x: float) -> str:
    return f"{x:.2g}" if x < 0.1 else f"{x:.2f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows])


def markdown(result: dict[str, Any]) -> str:
    parts = []
    choosing, checking = result["choosing"], result["checking"]
    for measure, name in NAMES.items():
        head = ["evaluations", *map(str, choosing)]
        rows = [["our best / peers' best", *(f"{row[measure]['ours/peers']:.2f}" for row in choosing.values())]]
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
            rows.append([str(nfe), number(part["auto"]), *cells, *[f"{name} {number(e)}" for name, e in mine]])
        parts.append(f"### Single settings on the {which} problems\n\n" + table(head[: 5 + (which == "choosing")], rows))
    rows = []
    for nfe, row in choosing.items():
        for where, found in row["both"]["problems"].items():
            (mine, mine_name), (theirs, theirs_name) = found["ours"], found["peers"]
            rows.append([str(nfe), where, f"{mine_name} {number(mine)}", f"{theirs_name} {number(theirs)}", f"{mine / theirs:.2f}"])
    parts.append("### The best on each problem\n\n" + table(["evaluations", "problem", "ours", "peers'", "ratio"], rows))
    return "\n\n".join(parts)


def network_markdown(found: dict[int, dict[str, float]]) -> str:
    names = list(next(iter(found.values())))
    rows = [[name, *(number(row[name]) if name in row else "-" for row in found.values())] for name in names]
    return table(["evaluations", *map(str, found)], rows)


#: (key in the table, label, colour, marker): Okabe and Ito's colours.
LINES = (
    ("single_peer", "best single setting of a peer", "#D55E00", "s"),
    ("peers_best", "best of all peers' settings, problem by problem", "#E69F00", "v"),
    ("default", "ab3 on the default grid", "#8a8a8a", "D"),
    ("auto", 'solver="auto"', "#0072B2", "o"),
)


def draw(result: dict[str, Any], path: Path) -> None:
    """Error against evaluations, one panel for each set of problems."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    titles = {"choosing": "the problems that auto was chosen on", "checking": "the problems that it was checked on"}
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True, layout="constrained")
    for axis, (which, title) in zip(axes, titles.items(), strict=True):
        budgets = [int(nfe) for nfe in result[which]]
        for key, label, colour, marker in LINES:
            values = [row["both"][key] for row in result[which].values()]
            axis.plot(budgets, values, color=colour, marker=marker, label=label, markersize=6, linewidth=1.6)
        axis.set(xscale="log", yscale="log", xlabel="network evaluations", title=title)
        axis.title.set_fontsize(11)
        axis.grid(True, which="major", color="#dddddd", linewidth=0.6)
        axis.xaxis.set_major_locator(FixedLocator(budgets))
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("error (geometric mean over problems)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
