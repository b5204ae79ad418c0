"""Programs written down for people."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping

from ..operators import Operator
from ..output import columns
from ..processes import Level
from .program import Combine, Draw, Evaluate, Instruction, Program

WIDTH = 140


def table(program: Program) -> str:
    """A program as a table: a line for every value, with the level on which it is made."""
    name, steps, blank = program.names, itertools.count(1), [""] * 4
    rows = [["step", "", "t", "A", "R", "sigma", ""]]
    rows.append(["", name[0], *_cells(program.start), "the start"])
    before: Instruction | None = None
    for i in program:
        if isinstance(i, Evaluate):
            x0, eps = (i.level.A.eye() * weight for weight in i.coordinates.p_of)
            text = _sum({f"eps({name[i.x]})": eps, f"x0({name[i.x]})": x0})
            rows.append(["", name[i.p], *_cells(i.level), text])
        elif isinstance(i, Combine):
            text = _sum({name[v]: c for v, c in i.terms.items()})
            rows.append(["", name[i.out], *blank, text])
        elif isinstance(i, Draw):
            rows.append(["", name[i.out], *blank, "noise"])
        else:
            arrives = isinstance(before, Combine) and before.out == i.x
            text = rows.pop()[-1] if arrives else "as above"
            rows.append([str(next(steps)), name[i.x], *_cells(i.level), text])
        before = i
    for row in rows:
        row[6] = re.sub(r"([-+]) ", "\\1\xa0", row[6])  # a sign stays with its term
    return columns(rows, "><>>>>", width=WIDTH).replace("\xa0", " ")


def _cells(level: Level) -> list[str]:
    sigma = f"{level.sigma:.6g}" if level.scalar else ""
    return [f"{level.t:.6g}", repr(level.A), repr(level.R), sigma]


def _sum(terms: Mapping[str, Operator]) -> str:
    text = ""
    for name, c in terms.items():
        if not c.zero or len(terms) == 1:
            # A matrix stays in one line.
            term = name if c.one else f"-{name}" if (-c).one else f"{c!r}*{name}"
            term = term.replace(" ", "\xa0")
            text += term if not text else f" - {term[1:]}" if term[0] == "-" else f" + {term}"
    return text
