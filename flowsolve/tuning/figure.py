"""A family of plans as a picture: where their levels lie, and error against evaluations."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import pictures
from ..checked import checked
from ..comparison.figures import plot_formats
from ..output import write
from ..plans import Tuned
from ..plans.program import Evaluate
from ..processes import Level


@checked
def plot(tuned: Sequence[Tuned], path: os.PathLike[str] | str, title: str = "") -> None:
    """Write a picture: left a row for each plan, its levels in log σ̄; right the errors on the
    starts that were held back, beside auto's.

    Raises:
        ImportError: without matplotlib.
        ValueError: if there is no plan, and if ``path`` cannot be written.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> tuned = flowsolve.tune(model, nfe=4, effort="search", n=32)
        >>> flowsolve.tuning.plot([tuned], "tuned.svg")
    """
    if not tuned:
        raise ValueError("tuned is empty; there is nothing to show")
    place = Path(path)
    pictures.check(place, plot_formats())
    from matplotlib.figure import Figure

    family = sorted(tuned, key=lambda each: each.nfe)
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    levels, errors = figure.subplots(1, 2)
    for row, each in enumerate(family):
        sigmas = [s for s in map(_sigma, each.plan.program) if s is not None]
        levels.plot(sigmas, [row] * len(sigmas), "o-", color="#0072B2", linewidth=0.8)
    names = [str(each.nfe) for each in family]
    levels.set(xscale="log", xlabel="σ̄ where the network is asked", ylabel="evaluations")
    levels.set_yticks(range(len(family)), names)
    levels.margins(y=0.2)
    levels.invert_xaxis()
    for label, colour, kind in (("auto", "#000000", "auto_error"), ("tuned", "#0072B2", "error")):
        for measure, style in (("rmse", "o-"), ("median", "v--")):
            values = [getattr(getattr(each, kind), measure) for each in family]
            name = f"{label}, {'RMSE' if measure == 'rmse' else measure}"
            errors.plot([each.nfe for each in family], values, style, color=colour, label=name)
    errors.set(xlabel="evaluations", yscale="log", title=f"{family[0].held_back} starts held back")
    errors.set_xticks([each.nfe for each in family], names)
    errors.legend(frameon=False)
    for axis in (levels, errors):
        axis.grid(True, color="#dddddd", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    if title:
        figure.suptitle(title)
    write(place, lambda file: figure.savefig(file, format=place.suffix[1:], dpi=120))


def _sigma(instruction: Any) -> float | None:
    """σ̄ where the network is asked, as far as an axis shows it."""
    if not isinstance(instruction, Evaluate):
        return None
    level: Level = instruction.level
    return min(level.sigma, 1e3) if math.isfinite(level.sigma) else 1e3
