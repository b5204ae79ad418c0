"""Programs written down: a table for people, JSON for files, and the form in which equal methods look equal.

In a table and in a file the states are x1 (the start), x2, ..., the network's answers p1, p2, ... and the draws of noise
z1, z2, ..., each numbered in the order of the run.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .coordinates import DATA, NOISE, VELOCITY
from .errors import unknown
from .matrices import Block, Diagonal
from .operators import Operator, Scalar
from .processes import Level
from .program import Arrive, Combine, Draw, Evaluate, Instruction

FORMAT, VERSION = "flowsolve plan", 1

#: Two numbers are the same up to rounding if they differ by no more than this, relative to the largest they stand beside.
#: DDIM with 1000 evaluations in NOISE, in DATA and in VELOCITY coordinates differs by less than 1e-13 (tests/test_plan_files.py).
TOLERANCE = 1e-9

COORDINATES = {c.name: c for c in (NOISE, DATA, VELOCITY)}
WIDTH = 140


# Another kind of operator is one more case in each of the next three functions.


def numbers(operator: Operator) -> Any:
    """The entries of an operator: a number, or {kind: nested lists of numbers}."""
    if isinstance(operator, Scalar):
        return operator.value
    if isinstance(operator, Block):
        return {"block": operator.entries.tolist()}
    if isinstance(operator, Diagonal):
        return {"dct": operator.value.tolist()}
    raise TypeError(f"{type(operator).__name__} cannot be written down: it is no case of flowsolve.notation.numbers")


def _operator(entries: Any) -> Operator:
    """The operator with these entries."""
    match entries:
        case {"block": [[_, _], [_, _]] as rows}:
            return Block.of([[_number(value) for value in row] for row in rows])
        case {"dct": [[_, *_], *_] as rows} if len({len(row) for row in rows}) == 1:
            return Diagonal(np.array([[_number(value) for value in row] for row in rows]))
    return Scalar(_number(entries))


def _entries(operator: Operator) -> np.ndarray:
    """The entries of an operator as an array."""
    written = numbers(operator)
    return np.array(next(iter(written.values())) if isinstance(written, dict) else written)


def _times(operator: Operator, row: np.ndarray) -> np.ndarray:
    """The product with each operator of a row, given by their entries: (terms, *entries)."""
    return _entries(operator) @ row if isinstance(operator, Block) else _entries(operator) * row


def names(program: Sequence[Instruction]) -> dict[int, str]:
    """What the values of a program are called."""
    result, counts = {0: "x1"}, {"x": 1, "p": 0, "z": 0}
    for i in program:
        if not isinstance(i, Arrive):
            out, letter = (i.p, "p") if isinstance(i, Evaluate) else (i.out, "x" if isinstance(i, Combine) else "z")
            counts[letter] += 1
            result[out] = f"{letter}{counts[letter]}"
    return result


# A table.


def table(start: Level, program: Sequence[Instruction]) -> str:
    """A program as a table: a line for every value, with the level on which it is made."""
    name, steps, blank = names(program), itertools.count(1), [""] * 4
    rows = [["step", "", "t", "A", "R", "sigma", ""], ["", name[0], *_cells(start), "the start"]]
    before: Instruction | None = None
    for i in program:
        if isinstance(i, Evaluate):
            x0, eps = (i.level.A.eye() * weight for weight in i.coordinates.p_of)
            rows.append(["", name[i.p], *_cells(i.level), _sum({f"eps({name[i.x]})": eps, f"x0({name[i.x]})": x0})])
        elif isinstance(i, Combine):
            rows.append(["", name[i.out], *blank, _sum({name[v]: c for v, c in i.terms.items()})])
        elif isinstance(i, Draw):
            rows.append(["", name[i.out], *blank, "noise"])
        else:
            text = rows.pop()[-1] if isinstance(before, Combine) and before.out == i.x else "as above"
            rows.append([str(next(steps)), name[i.x], *_cells(i.level), text])
        before = i
    widths = [max(len(row[k]) for row in rows) for k in range(6)]
    indent = sum(widths) + 2 * len(widths)
    lines = []
    for row in rows:
        left = [cell.ljust(w) if k == 1 else cell.rjust(w) for k, (cell, w) in enumerate(zip(row[:6], widths, strict=True))]
        whole = re.sub(r"([-+]) ", "\\1\xa0", row[6])  # a sign stays with its term
        parts = textwrap.wrap(whole, max(40, WIDTH - indent), break_long_words=False, break_on_hyphens=False) or [""]
        lines += ["  ".join([*left, parts[0]]).rstrip(), *(" " * indent + more for more in parts[1:])]
    return "\n".join(lines).replace("\xa0", " ")


def _cells(level: Level) -> list[str]:
    sigma = f"{level.sigma:.6g}" if isinstance(level.A, Scalar) else ""
    return [f"{level.t:.6g}", repr(level.A), repr(level.R), sigma]


def _sum(terms: Mapping[str, Operator]) -> str:
    text = ""
    for name, c in terms.items():
        if not c.zero or len(terms) == 1:
            term = name if c.one else f"-{name}" if (-c).one else f"{c!r}*{name}".replace(" ", "\xa0")  # a matrix stays in one line
            text += term if not text else f" - {term[1:]}" if term.startswith("-") else f" + {term}"
    return text


# Equality.

Row = tuple[Level, np.ndarray]


def same(start: Level, program: Sequence[Instruction], other_start: Level, other: Sequence[Instruction]) -> bool:
    """True if the programs ask the network on the same levels, at the same states, and end alike, all up to rounding."""
    if type(start.R) is not type(other_start.R) or not same_level(start, other_start):
        return False
    pairs = itertools.zip_longest(canonical(start, program), canonical(other_start, other))
    return all(a is not None and b is not None and same_level(a[0], b[0]) and _same_row(a[1], b[1]) for a, b in pairs)


def canonical(start: Level, program: Sequence[Instruction]) -> Iterator[Row]:
    """Every state the network is asked at, and the end: its level, and the state as a combination of what is given.

    A row has the entries of the operators on the start, on ε̂ − x̂0 of each evaluation (which is finite at both ends; with
    the state it determines any other prediction; where A and R are matrices, on ε̂), and on each draw of noise.
    """
    asked = sum(isinstance(i, Evaluate) for i in program)
    size = 1 + asked + sum(isinstance(i, Draw) for i in program)
    given = np.multiply.outer(np.eye(size), _entries(start.R.eye()))
    basis = VELOCITY if isinstance(start.R, Scalar) else NOISE  # matrices have no pure noise, and A + R may have no inverse
    values, predictions, end = {0: given[0]}, iter(given[1:]), None
    for i in program:
        if isinstance(i, Evaluate):
            yield i.level, values[i.x]
            a, b = basis.convert(i.coordinates, i.level)
            values[i.p] = _times(a, values[i.x]) + _times(b, next(predictions))
        elif isinstance(i, Combine):
            values[i.out] = sum((_times(c, values[v]) for v, c in i.terms.items()), np.zeros_like(given[0]))
        elif isinstance(i, Draw):
            values[i.out] = given[1 + asked + i.number]
        else:
            end = i
    if end is not None:
        yield end.level, values[end.x]


def same_level(a: Level, b: Level) -> bool:
    """True if two levels have the same time, A and R, up to rounding."""
    if a == b:  # the usual case, and much faster
        return True
    (a_A, a_R), (b_A, b_R) = (np.array([_entries(level.A), _entries(level.R)]) for level in (a, b))
    least = 1e-3 * TOLERANCE * max(np.abs(a_A).max(), np.abs(a_R).max())
    same = (np.allclose(x, y, rtol=TOLERANCE, atol=least) for x, y in ((a_A, b_A), (a_R, b_R)))
    return math.isclose(a.t, b.t, rel_tol=TOLERANCE, abs_tol=TOLERANCE) and all(same)


def _same_row(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.abs(a - b).max() <= TOLERANCE * max(np.abs(a).max(), np.abs(b).max()))


# Files.


def dumps(start: Level, program: Sequence[Instruction]) -> str:
    """A program as JSON, a line for every instruction. Floats are written in full, so they are read again to the bit."""
    name = names(program)
    lines: list[dict[str, Any]] = [{"start": name[0], "level": _written(start)}]
    for i in program:
        if isinstance(i, Evaluate):
            if COORDINATES.get(i.coordinates.name) != i.coordinates:
                raise ValueError(f"a plan's file has no name for the coordinates {i.coordinates!r}; it has {', '.join(COORDINATES)}")
            lines.append({"evaluate": name[i.x], "level": _written(i.level), "coordinates": i.coordinates.name, "is": name[i.p]})
        elif isinstance(i, Combine):
            lines.append({"sum": {name[v]: numbers(c) for v, c in i.terms.items()}, "is": name[i.out]})
        elif isinstance(i, Draw):
            lines.append({"noise": name[i.out]})
        else:
            lines.append({"arrive": name[i.x], "level": _written(i.level)})
    body = ",\n".join("    " + json.dumps(line, allow_nan=False) for line in lines)
    return f'{{\n  "format": {json.dumps(FORMAT)},\n  "version": {VERSION},\n  "program": [\n{body}\n  ]\n}}\n'


def loads(text: str) -> tuple[Level, tuple[Instruction, ...]]:
    """The start and the program of :func:`dumps`. Raises ValueError saying what is wrong with ``text``."""
    whole = json.loads(text)
    if not isinstance(whole, dict) or whole.get("format") != FORMAT:
        raise ValueError(f'there is no "format": "{FORMAT}" in it')
    if whole.get("version") != VERSION:
        raise ValueError(f"it has version {whole.get('version')!r}")
    lines = whole.get("program")
    if not (isinstance(lines, list) and len(lines) > 1 and all(isinstance(line, dict) for line in lines)):
        raise ValueError("it has no program")
    known: dict[str, int] = {}

    def new(name: str) -> int:
        if name in known:
            raise ValueError(f"{name!r} is made twice")
        return known.setdefault(name, len(known))

    def value(name: str) -> int:
        if name not in known:
            raise ValueError(f"{name!r} is used before it is made")
        return known[name]

    program: list[Instruction] = []
    draws = itertools.count()
    match lines[0]:
        case {"start": str(name), "level": level}:
            new(name)
            start = _level(level)
        case line:
            raise ValueError(f"its program starts with {line!r}")
    for line in lines[1:]:
        match line:
            case {"evaluate": str(x), "level": level, "coordinates": str(coordinates), "is": str(p)}:
                if coordinates not in COORDINATES:
                    raise ValueError(unknown("coordinates", coordinates, COORDINATES))
                program.append(Evaluate(value(x), new(p), _level(level), COORDINATES[coordinates]))
            case {"sum": dict(terms), "is": str(out)} if terms:
                summands = {value(name): _operator(c) for name, c in terms.items()}
                program.append(Combine(new(out), summands))
            case {"noise": str(out)}:
                program.append(Draw(new(out), next(draws)))
            case {"arrive": str(x), "level": level}:
                program.append(Arrive(value(x), _level(level)))
            case _:
                raise ValueError(f"there is no instruction {line!r}")
    if not isinstance(program[-1], Arrive):
        raise ValueError("its program ends nowhere")
    return start, tuple(program)


def _written(level: Level) -> dict[str, Any]:
    t = level.t if math.isfinite(level.t) else str(level.t)  # clean data may be infinitely far in time, which JSON cannot say
    return {"t": t, "A": numbers(level.A), "R": numbers(level.R)}


def _level(written: Any) -> Level:
    match written:
        case {"t": t, "A": a, "R": r}:
            return Level(float(t) if t in ("inf", "-inf") else _number(t), _operator(a), _operator(r))
    raise ValueError(f"{written!r} is not a level")


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)
