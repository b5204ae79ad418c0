"""The pictures beside the results, and what they have in common."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from timing import Spread

#: Okabe and Ito's colours, which colour-blind readers can tell apart, and markers for those who
#: print in grey.
STYLES = {
    "ddim": ("#000000", "o"),
    "heun": ("#E69F00", "s"),
    "rk4": ("#CC79A7", "D"),
    "ab2": ("#0072B2", "v"),
    "ab4": ("#56B4E9", "^"),
    "dopri5": ("#8a8a8a", "*"),
}
TITLES = {
    "uniform": "uniform in time",
    "quadratic": "quadratic in time",
    "karras": "Karras, ρ = 7",
    "logsnr": "uniform in log SNR",
}
ROWS = {"circle": "Gaussian mixture", "1500 digits": "digits"}
#: Of few-step accuracy: key in the table, label, colour, marker.
LINES = (
    ("single_peer", "best single setting of a peer", "#D55E00", "s"),
    ("peers_best", "best of all peers' settings, problem by problem", "#E69F00", "v"),
    ("default", "ab3 on the default grid", "#8a8a8a", "D"),
    ("auto", 'solver="auto"', "#0072B2", "o"),
)
SETS = {
    "choosing": "the problems that auto was chosen on",
    "checking": "the problems that it was checked on",
}


def _figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt.subplots(
        rows,
        columns,
        figsize=size,
        sharex=True,
        sharey="row",
        layout="constrained",
        squeeze=False,
    )


def _line(axis: Any, x: Sequence[float], y: Sequence[float], style: Any, label: str) -> None:
    colour, marker, *dash = style
    axis.plot(x, y, "".join(dash) or "-", color=colour, marker=marker, label=label, lw=1.6, ms=6)


def _both_logarithmic(axes: Iterable[Any], budgets: Sequence[int]) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    for axis in axes:
        axis.set(xscale="log", yscale="log")
        axis.grid(True, which="major", color="#dddddd", linewidth=0.6)
        axis.xaxis.set_major_locator(FixedLocator(list(budgets)))
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.spines[["top", "right"]].set_visible(False)


def _finish(figure: Any, axes: Any, columns: int, path: Path) -> None:
    import matplotlib.pyplot as plt

    for axis in axes[-1]:
        axis.set_xlabel("network evaluations")
    handles = axes[0][0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=columns, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def work_precision(result: Mapping[str, Any], path: Path) -> None:
    """One row for each problem, one column for each grid."""
    figure, axes = _figure(len(result), len(TITLES), (13, 7))
    _both_logarithmic(axes.flat, (5, 10, 20, 50, 100))
    for row, (name, parts) in zip(axes, result.items(), strict=True):
        lowest = math.inf
        for axis, grid in zip(row, TITLES, strict=True):
            lines = parts["grids"][grid] | parts["adaptive"]
            for solver, style in STYLES.items():
                points = [p for p in lines.get(solver, []) if 4 < p["nfe"] <= 110]
                if not points:
                    continue
                lowest = min(lowest, *(p["median"] for p in points))
                by_tolerance = solver in parts["adaptive"]
                _line(
                    axis,
                    [p["nfe"] for p in points],
                    [p["median"] for p in points],
                    (*style, ":" * by_tolerance),
                    f"{solver} (by tolerance)" if by_tolerance else solver,
                )
        # Coarse Runge-Kutta runs diverge and leave the picture at the top.
        row[0].set_ylim(0.7 * lowest, 2.0)
        row[0].set_ylabel(f"{ROWS[name]}\nmedian error of a sample")
    for axis, title in zip(axes[0], TITLES.values(), strict=True):
        axis.set_title(title, fontsize=11)
    _finish(figure, axes, len(STYLES), path)


def few_step(result: Mapping[str, Any], path: Path) -> None:
    """Error against evaluations, one panel for each set of problems."""
    figure, axes = _figure(1, 2, (11, 4.6))
    budgets = [int(nfe) for nfe in result["choosing"]]
    _both_logarithmic(axes.flat, budgets)
    for axis, (which, title) in zip(axes.flat, SETS.items(), strict=True):
        axis.set_title(title, fontsize=11)
        for key, label, *style in LINES:
            values = [row["both"][key] for row in result[which].values()]
            _line(axis, budgets, values, style, label)
    axes[0][0].set_ylabel("error (geometric mean over problems)")
    _finish(figure, axes, 2, path)


def overhead(
    found: Mapping[str, Mapping[str, Spread]], targets: Mapping[str, float], path: Path
) -> None:
    """Medians with their spreads for each size of a state, targets as bars."""
    import matplotlib.pyplot as plt

    figure, axes = _figure(1, 1, (8, 4.6))
    axis, names = axes[0][0], list(next(iter(found.values())))
    for (shape, by), (colour, marker) in zip(found.items(), STYLES.values(), strict=False):
        middle = [by[name].median for name in names]
        bars = (
            [by[name].median - by[name].least for name in names],
            [by[name].most - by[name].median for name in names],
        )
        axis.errorbar(names, middle, bars, fmt=marker, color=colour, capsize=4, label=shape)
    for name, target in targets.items():
        k = names.index(name)
        axis.plot([k - 0.3, k + 0.3], [target, target], color="#D55E00", label="_")
    axis.set(ylim=(0, None), ylabel="overhead of an evaluation / one mul and add_")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=110)
    plt.close(figure)
