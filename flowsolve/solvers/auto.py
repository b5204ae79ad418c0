"""What "auto" stands for: a rule and a grid by what is known before a run, which is the budget, the
size of a sample, the scale of the data, and what the network predicts.

Levels are those of :class:`~flowsolve.grids.Logistic` around a center that grows with the size d as
d^¼. There are two tables, measured (docs/tuning.md). In :data:`STEADY` are the networks whose
output says ε̂ − x̂0 at every level. One of ε does not at the noisiest: x̂0 = (x − Rε̂)/A has its
error times σ̄, often a hundred and more, a polynomial through that is far off, and levels at large
σ̄ pay: :data:`AMPLIFIED`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple

from ..about import About
from ..coordinates import FLOW
from ..grids import Grid, Logistic
from ..processes import Process
from .base import Solver


class Choice(NamedTuple):
    """What is taken with up to ``most`` evaluations: a solver's name, whether it finishes, and the
    grid's center in d^¼, low and high."""

    most: float
    solver: str
    finish: bool
    center: float
    low: float
    high: float


#: The center with few evaluations, in d^¼.
CENTER = 0.28
STEADY = (
    Choice(2, "fpc2", True, 0.7, 1.0, 1.0),
    Choice(3, "fpc2", False, 0.38, 1.5, 1.2),
    Choice(4, "fpc2", False, 0.45, 1.5, 1.2),
    Choice(9, "fpc2", True, CENTER, 1.5, 1.2),
    Choice(14, "fpc3", True, CENTER, 1.5, 1.2),
    Choice(24, "fpc3", True, 0.31, 1.5, 1.2),
    Choice(math.inf, "vpc3", True, 0.31, 1.5, 1.2),
)
AMPLIFIED = (
    Choice(2, "fpc2", False, 0.5, 1.2, 1.5),
    Choice(4, "fpc2", False, 0.5, 1.0, 1.0),
    Choice(6, "vpc2", True, 0.5, 1.2, 1.5),
    Choice(9, "vpc2", True, 0.5, 1.5, 1.5),
    Choice(14, "vpc2", True, 0.37, 2.0, 2.0),
    Choice(math.inf, "vpc3", True, 0.31, 1.6, 2.4),
)
#: An output whose error is multiplied by more is amplified: with ε the factor is the largest σ̄,
#: with x0, v, F and velocities it is about one.
MOST = 10.0
#: What it stands for where the process has a clock of its own, A and R being matrices; on the
#: process's default grid (docs/gddim.md).
IN_TIME = "unipc3"
#: With as many evaluations at most, answers that jump get a method of order two: a polynomial of
#: order three that is drawn across the jump overshoots by more than it gains elsewhere.
JUMPING = 24
SECOND = {"fpc3": "fpc2", "vpc3": "vpc2"}
#: The largest size that a center was measured for, and the one where nobody says.
LARGE = 4096
#: The variance of an entry of the data, where nobody says.
VARIANCE = 0.3


def size_of(process: Process | None, about: About) -> float:
    """By what centers grow, d^¼, and with the scale of the data. A flow that was shifted for large
    pictures says itself where the middle is, σ̄ = shift, if that is farther."""
    width = 1.0 if about.scale is None else about.scale / VARIANCE**0.5
    size = min(about.size or LARGE, LARGE) ** 0.25
    if process is not None and process.shift != 1.0:
        size = max(size, process.shift / CENTER)
    return width * size


def center_of(process: Process | None, about: About) -> float:
    """The σ̄ in the middle of the levels, with few evaluations."""
    return CENTER * size_of(process, about)


def auto(
    nfe: int, process: Process | None, about: About, known: Mapping[str, Solver]
) -> tuple[Solver, Grid | None]:
    """The solver, of those that are ``known`` by name, and the grid."""
    if process is not None and process.clock:
        return known[IN_TIME], None
    table = AMPLIFIED if process is not None and _amplified(process, about) else STEADY
    choice = next(choice for choice in table if nfe <= choice.most)
    name = choice.solver
    if about.jumps and nfe <= JUMPING:
        name = SECOND.get(name, name)
    solver = known[name]
    if not choice.finish:
        solver = dataclasses.replace(solver, finish=False)  # type: ignore[call-arg]
    center = choice.center * size_of(process, about)
    return solver, Logistic(center, choice.low, choice.high)


def _amplified(process: Process, about: About) -> bool:
    if about.predicts is None:
        return False
    try:
        _, factor = about.predicts.coefficients(process, process.start).mix(FLOW.p_of)
    except ValueError:  # which says nothing there
        return True
    return abs(factor.value) > MOST
