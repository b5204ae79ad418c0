"""The work-precision picture: one row for each problem, one column for each grid."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

#: Okabe and Ito's colours, which colour-blind readers can tell apart, and markers for those who print in grey.
STYLES = {
    "ddim": ("#000000", "o"),
    "heun": ("#E69F00", "s"),
    "rk4": ("#CC79A7", "D"),
    "ab2": ("#0072B2", "v"),
    "ab4": ("#56B4E9", "^"),
    "dpmpp2m": ("#009E73", "P"),
    "unipc2": ("#D55E00", "X"),
    "dopri5": ("#8a8a8a", "*"),
    "adaptive": ("#8a8a8a", "h"),
}
TITLES = {"uniform": "uniform in time", "quadratic": "quadratic in time", "karras": "Karras, ρ = 7", "logsnr": "uniform in log SNR"}
ROWS = {"mixture": "Gaussian mixture", "digits": "digits"}


def draw(result: dict[str, Any], path: Path, grids: tuple[str, ...] = tuple(TITLES)) -> None:
    """Write the picture of ``result`` (see test_work_precision) to ``path``."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    figure, axes = plt.subplots(len(result), len(grids), figsize=(13, 7), sharex=True, sharey="row", layout="constrained", squeeze=False)
    for row, (name, parts) in zip(axes, result.items(), strict=True):
        lowest = math.inf
        for axis, grid in zip(row, grids, strict=True):
            lines = parts["grids"][grid] | parts["adaptive"]
            for solver, (colour, marker) in STYLES.items():
                points = [p for p in lines.get(solver, []) if 4 < p["nfe"] <= 110]
                if points:
                    lowest = min(lowest, *(p["median"] for p in points))
                    by_tolerance = solver in parts["adaptive"]
                    axis.plot(
                        [p["nfe"] for p in points],
                        [p["median"] for p in points],
                        color=colour,
                        marker=marker,
                        linestyle=":" if by_tolerance else "-",
                        label=f"{solver} (by tolerance)" if by_tolerance else solver,
                        markersize=6,
                        linewidth=1.6,
                    )
            axis.set(xscale="log", yscale="log")
            axis.grid(True, which="major", color="#dddddd", linewidth=0.6)
            axis.xaxis.set_major_locator(FixedLocator([5, 10, 20, 50, 100]))
            axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.xaxis.set_minor_locator(NullLocator())
            axis.spines[["top", "right"]].set_visible(False)
        row[0].set_ylim(0.7 * lowest, 2.0)  # coarse Runge-Kutta runs diverge and leave the picture at the top
        row[0].set_ylabel(f"{ROWS[name]}\nmedian error of a sample")
    for axis, grid in zip(axes[0], grids, strict=True):
        axis.set_title(TITLES[grid], fontsize=11)
    for axis in axes[-1]:
        axis.set_xlabel("network evaluations")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
