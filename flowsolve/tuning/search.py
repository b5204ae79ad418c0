"""The start of a fit: the best of some rules on a family of grids, found by evaluations alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..coordinates import DATA, FLOW, Coordinates
from ..errors import Unsuited
from ..grids import Explicit, Grid, Logistic
from ..plans import Plan
from ..processes import FLOW_TIME, LAMBDA, Variable
from ..run import Span, layout
from ..solvers import Multistep, Polynomial, Solver
from .problem import Problem, Starts, both
from .rows import Rows


def _corrected(points: int, coordinates: Coordinates, variable: Variable) -> Solver:
    predictor, corrector = (Polynomial(k, coordinates, variable) for k in (points, points + 1))
    return Multistep(predictor, corrector, finish=True)


#: The rules, by what they are called; the first three are those of a short search.
RULES: dict[str, Solver] = {
    "fpc2": _corrected(2, FLOW, FLOW_TIME),
    "vpc2": _corrected(2, FLOW, LAMBDA),
    "unipc2, finished": _corrected(2, DATA, LAMBDA),
    "fpc3": _corrected(3, FLOW, FLOW_TIME),
    "vpc3": _corrected(3, FLOW, LAMBDA),
    "flow AB2 in flow time": Multistep(Polynomial(2, FLOW, FLOW_TIME)),
    "flow AB2 in λ": Multistep(Polynomial(2, FLOW, LAMBDA)),
}
#: (low, high) of the logistic grids.
SHAPES = ((1.0, 1.0), (1.5, 1.5), (1.6, 2.4), (1.5, 1.0), (1.0, 1.5), (2.0, 1.5), (2.0, 2.0))
#: Starts that say enough of a rule and a grid.
MOST = 24
#: What their center is, in what auto's is.
CENTERS = (0.5, 1.0, 2.0)


class Found(NamedTuple):
    """A candidate.

    Attributes:
        error: on the starts it was last run from.
        rule: its name.
        grid: what it was laid out on.
        rows: its numbers.
    """

    error: float
    rule: str
    grid: Logistic
    rows: Rows

    def __str__(self) -> str:
        g = self.grid
        return f"{self.rule} on logistic({g.center:.3g}, {g.low:.3g}, {g.high:.3g})"


class Effort(NamedTuple):
    """How much is tried.

    Attributes:
        rules, shapes: the first so many of them.
        first: the starts of the first round.
        kept: how many of its candidates are run from all.
        refined: how many rules' best are refined.
    """

    rules: int
    shapes: int
    first: int
    kept: int
    refined: int


SHORT, LONG = Effort(3, 3, 4, 14, 1), Effort(7, 7, 8, 14, 2)


def search(
    problem: Problem,
    starts: Starts,
    nfe: int,
    center: float,
    effort: Effort,
    better: Callable[[Found], object],
) -> list[Found]:
    """The best candidates of the best rules, one of each, the best first.

    Args:
        problem, starts: what is measured on, the first :data:`MOST` of them.
        nfe: evaluations of a run.
        center: of the grid of auto.
        effort: how much is tried.
        better: told of the best so far, whenever there is a better one.
    """
    rules, starts = list(RULES)[: effort.rules], starts.part(slice(MOST))
    first = _measured(
        problem,
        starts.part(slice(effort.first)),
        (
            (rule, Logistic(center * c, low, high))
            for rule, c, (low, high) in itertools.product(rules, CENTERS, SHAPES[: effort.shapes])
        ),
        nfe,
    )
    again = ((f.rule, f.grid) for f in first[: effort.kept])
    second = _measured(problem, starts, again, nfe)
    better(second[0])
    leaders = list({f.rule: f for f in reversed(second)}.values())
    leaders.sort(key=lambda f: f.error)
    refined = (_compass(problem, starts, f, nfe, better) for f in leaders[: effort.refined])
    return sorted(refined, key=lambda f: f.error)


def laid(problem: Problem, solver: Solver, grid: Grid, nfe: int) -> Plan | None:
    """The plan of a solver on a grid, on a table's entries where the network is told whole numbers;
    None where it has none there."""
    process = problem.process
    span: Span = (problem.begin.t, problem.end.t)
    try:
        if problem.on_entries:
            levels = grid.levels(process, nfe, problem.begin, problem.end)
            grid = Explicit(tuple(entries([level.t for level in levels])))
            span = (None, None)
        return layout(solver, process, grid, nfe, span).plan
    except (Unsuited, ValueError):
        return None


def entries(times: Sequence[float]) -> list[float]:
    """Times of a table's levels, rounded to its entries, each at least one below the one before;
    the first and the last stay."""
    result = [float(times[0])]
    for k, t in enumerate(times[1:-1], 1):
        low = len(times) - 2 - k  # room for those that follow
        result.append(float(max(low, min(round(t), math.ceil(result[-1]) - 1))))
    return [*result, float(times[-1])]


def _measured(
    problem: Problem, starts: Starts, pairs: Iterable[tuple[str, Logistic]], nfe: int
) -> list[Found]:
    found = []
    for rule, grid in pairs:
        plan = laid(problem, RULES[rule], grid, nfe)
        rows = None if plan is None else Rows.of(plan)
        if rows is not None and rows.n == nfe:
            found.append(Found(both(problem.errors(rows, starts)), rule, grid, rows))
    return sorted(found, key=lambda f: f.error)


def _compass(
    problem: Problem,
    starts: Starts,
    best: Found,
    nfe: int,
    better: Callable[[Found], object],
) -> Found:
    """A descent in the logarithms of the grid's three numbers: a step in each direction, shorter
    where none helps."""
    size = 0.35
    while size > 0.12:
        place = np.log([best.grid.center, best.grid.low, best.grid.high])
        around = [place + sign * size * e for e in np.eye(3) for sign in (1.0, -1.0)]
        grids = [Logistic(*np.exp(p).clip(0.1, 100.0).tolist()) for p in around]
        found = _measured(problem, starts, [(best.rule, grid) for grid in grids], nfe)
        if found and found[0].error < best.error:
            best = found[0]
            better(best)
        else:
            size *= 0.5
    return best
