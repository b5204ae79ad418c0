"""The papers' tables on the shipped digits: quality by steps, and pictures of few steps, both from
the results of benchmarks/papers.py."""

import json
import statistics
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

#: Where this script is; the plot directive runs it there, and tells it no name.
HERE = Path(globals().get("__file__", "here")).resolve().parent
RULES = {"η = 0": "C0", "η = 0.2": "C9", "η = 0.5": "C2", "η = 1": "C1", "σ̂": "C3"}


def result(name):
    path = HERE.parents[1] / "benchmarks" / "results" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def line(cells, levels, rule, measure):
    """Numbers of steps, means over seeds, and their standard errors."""
    found = {}
    for name, row in cells.items():
        if name.startswith(f"{levels}, {rule}, ") and row:
            values = row[measure]
            error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
            found[int(name.rpartition(", ")[2])] = (statistics.mean(values), error)
    steps = sorted(found)
    return steps, *zip(*(found[n] for n in steps), strict=True)


def draw():
    cells = result("table1")["cells"]
    figure, axes = plt.subplots(1, 2, figsize=(7.4, 3.6), layout="constrained", sharex=True)
    for axis, measure in zip(axes, ("pixels", "features"), strict=True):
        for rule, color in RULES.items():
            steps, means, errors = line(cells, "table", rule, measure)
            axis.errorbar(steps, means, errors, marker="o", ms=4, color=color, label=rule)
        for rule in ("η = 0", "σ̂"):
            steps, means, errors = line(cells, "cosine", rule, measure)
            label = f"{rule}, own levels"
            how = {"marker": "s", "ms": 4, "ls": "--", "color": RULES[rule], "label": label}
            axis.errorbar(steps, means, errors, **how)
        axis.set(xscale="log", yscale="log", xlabel="steps $S$", title=measure)
        axis.set_xticks(steps_of(cells), steps_of(cells))
        axis.minorticks_off()
    axes[0].set_ylabel("Fréchet distance")
    axes[0].set_yticks([0.3, 1, 3, 10], ["0.3", "1", "3", "10"])
    axes[1].set_yticks([2, 5, 10, 20], ["2", "5", "10", "20"])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def steps_of(cells):
    return sorted({int(name.rpartition(", ")[2]) for name, row in cells.items() if row})


def samples():
    """Rows: rules; columns: S; in each the same six starts."""
    found = result("figure3")["pictures"]
    names = [tuple(name.rsplit(", ", 1)) for name in found]
    rules, steps = (list(dict.fromkeys(part)) for part in zip(*names, strict=True))
    figure, axes = plt.subplots(
        len(rules), len(steps), figsize=(7.4, 3.4), squeeze=False, layout="constrained"
    )
    for row, rule in zip(axes, rules, strict=True):
        for axis, n in zip(row, steps, strict=True):
            six = np.array(found[f"{rule}, {n}"]).reshape(2, 3, 8, 8)
            sheet = np.pad(six, ((0, 0), (0, 0), (1, 1), (1, 1))).swapaxes(1, 2).reshape(20, 30)
            axis.imshow(sheet, cmap="gray", vmin=0, vmax=16)
            axis.set(xticks=[], yticks=[], frame_on=False)
        row[0].set_ylabel(rule)
    for axis, n in zip(axes[0], steps, strict=True):
        axis.set_title(f"$S$ = {n}", fontsize=9)
    return figure
