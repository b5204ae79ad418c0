"""The form in which equal methods look equal."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from ..coordinates import FLOW, NOISE
from ..processes import Level
from .program import Arrive, Combine, Draw, Evaluate, Program

#: Two numbers are the same up to rounding if they differ by no more than this, relative to the
#: largest they stand beside. DDIM with 1000 evaluations in NOISE, in DATA and in FLOW coordinates
#: differs by less than 1e-13 (tests/test_plan_files.py).
TOLERANCE = 1e-9

Row = tuple[Level, np.ndarray]


def same(a: Program, b: Program) -> bool:
    """True if the programs ask the network on the same levels, at the same states, and end alike,
    all up to rounding."""
    if (a.evaluations, a.draws) != (b.evaluations, b.draws):
        return False
    if type(a.start.R) is not type(b.start.R) or not same_level(a.start, b.start):
        return False
    pairs = itertools.zip_longest(canonical(a), canonical(b))
    return all(
        p is not None and q is not None and same_level(p[0], q[0]) and _same_row(p[1], q[1])
        for p, q in pairs
    )


def canonical(program: Program) -> Iterator[Row]:
    """Every state the network is asked at, and the end: its level, and the state as a combination
    of what is given.

    A row has the entries of the operators on the start, on ε̂ − x̂0 of each evaluation (which is
    finite at both ends; with the state it determines any other prediction; where A and R are
    matrices, on ε̂), and on each draw of noise.
    """
    asked, one = program.evaluations, program.start.R.eye().entries
    given = np.multiply.outer(np.eye(1 + asked + program.draws), one)
    # Matrices have no pure noise, and A + R may have no inverse.
    basis = FLOW if program.start.scalar else NOISE
    values, predictions, end = {0: given[0]}, iter(given[1:]), None
    for i in program:
        if isinstance(i, Evaluate):
            yield i.level, values[i.x]
            a, b = basis.convert(i.coordinates, i.level)
            values[i.p] = a.on_entries(values[i.x]) + b.on_entries(next(predictions))
        elif isinstance(i, Combine):
            terms = (c.on_entries(values[v]) for v, c in i.terms.items())
            values[i.out] = sum(terms, np.zeros_like(given[0]))
        elif isinstance(i, Draw):
            values[i.out] = given[1 + asked + i.number]
        else:
            end = i
    if isinstance(end, Arrive):
        yield end.level, values[end.x]


def same_level(a: Level, b: Level) -> bool:
    """True if two levels have the same time, A and R, up to rounding."""
    if a == b:  # the usual case, and much faster
        return True
    if not math.isclose(a.t, b.t, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
        return False
    pairs = [(x.entries, y.entries) for x, y in ((a.A, b.A), (a.R, b.R))]
    least = 1e-3 * TOLERANCE * max(np.abs(x).max() for x, _ in pairs)
    return all(
        x.shape == y.shape and np.allclose(x, y, rtol=TOLERANCE, atol=least) for x, y in pairs
    )


def _same_row(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.abs(a - b).max() <= TOLERANCE * max(np.abs(a).max(), np.abs(b).max()))
