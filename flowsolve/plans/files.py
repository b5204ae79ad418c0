"""Programs as JSON, a line for every instruction. Numbers are written in full, so that they are
read again to the bit."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from typing import Any

import numpy as np

from ..coordinates import COORDINATES, FLOW
from ..errors import unknown
from ..operators import Operator, Scalar
from ..processes import Level
from .program import Arrive, Combine, Draw, Evaluate, Instruction, Program

FORMAT, VERSION = "flowsolve plan", 1
LARGEST = float(np.finfo(np.float32).max)
#: What files of before FLOW coordinates had that name call them.
_FORMER = {"velocity": FLOW}


def dumps(program: Program) -> str:
    """A program as JSON."""
    name = program.names
    lines: list[dict[str, Any]] = [{"start": name[0], "level": _level(program.start)}]
    for i in program:
        if isinstance(i, Evaluate):
            if COORDINATES.get(i.coordinates.name) != i.coordinates:
                raise ValueError(
                    f"a plan's file has no name for the coordinates {i.coordinates!r}; it has "
                    f"{', '.join(COORDINATES)}"
                )
            where = {"level": _level(i.level), "coordinates": i.coordinates.name}
            lines.append({"evaluate": name[i.x], **where, "is": name[i.p]})
        elif isinstance(i, Combine):
            terms = {name[v]: _operator(c) for v, c in i.terms.items()}
            lines.append({"sum": terms, "is": name[i.out]})
        elif isinstance(i, Draw):
            lines.append({"noise": name[i.out]})
        else:
            lines.append({"arrive": name[i.x], "level": _level(i.level)})
    body = ",\n".join("    " + json.dumps(line, allow_nan=False) for line in lines)
    head = f'  "format": {json.dumps(FORMAT)},\n  "version": {VERSION},\n'
    return f'{{\n{head}  "program": [\n{body}\n  ]\n}}\n'


def loads(text: str) -> Program:
    """The program of :func:`dumps`. Raises ValueError saying what is wrong with ``text``, and
    where."""
    whole = json.loads(text, object_pairs_hook=_once)
    if not isinstance(whole, dict) or whole.get("format") != FORMAT:
        raise ValueError(f'there is no "format": "{FORMAT}" in it')
    version = whole.get("version")
    if type(version) is not int or version != VERSION:
        raise ValueError(f"it has version {version!r}")
    lines = whole.get("program")
    if not (
        isinstance(lines, list) and len(lines) > 1 and all(isinstance(line, dict) for line in lines)
    ):
        raise ValueError("it has no program")
    for key in whole.keys() - {"format", "version", "program"}:
        raise ValueError(f"there is no place for {key!r} in it")
    return _Reader().program(lines)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object's pairs as a dictionary."""
    for key, n in Counter(key for key, _ in pairs).items():
        if n > 1:
            raise ValueError(f"{key!r} is {n} times in one of its objects")
    return dict(pairs)


class _Reader:
    """Reads lines one after another, and knows which values have been made, and by what kind of
    operators."""

    start: Level

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self.draws = itertools.count()
        self.like: Operator | None = None

    def new(self, name: str) -> int:
        if name in self.known:
            raise ValueError(f"{name!r} is made twice")
        return self.known.setdefault(name, len(self.known))

    def value(self, name: str) -> int:
        if name not in self.known:
            raise ValueError(f"{name!r} is used before it is made")
        return self.known[name]

    def program(self, lines: list[dict[str, Any]]) -> Program:
        instructions: list[Instruction] = []
        for n, line in enumerate(lines):
            try:
                if n:
                    instructions.append(self.instruction(line))
                else:
                    self.begin(line)
            except ValueError as error:
                raise ValueError(f"program[{n}]: {error}") from error
        if not isinstance(instructions[-1], Arrive):
            raise ValueError("its program ends nowhere")
        return Program(self.start, tuple(instructions))

    def begin(self, line: dict[str, Any]) -> None:
        match line:
            case {"start": str(name), "level": level, **rest} if not rest:
                self.new(name)
                self.start = self.level(level)
            case _:
                raise ValueError(f"its program starts with {line!r}")

    def instruction(self, line: dict[str, Any]) -> Instruction:
        match line:
            case {
                "evaluate": str(x),
                "level": level,
                "coordinates": str(name),
                "is": str(p),
                **rest,
            } if not rest:
                coordinates = (COORDINATES | _FORMER).get(name)
                if coordinates is None:
                    raise ValueError(unknown("coordinates", name, COORDINATES))
                at, (u, v) = self.level(level), coordinates.p_of
                if (at.A * v - at.R * u).singular:  # x and p do not tell x̂0 and ε̂
                    raise ValueError(f"{name} coordinates do not exist at its {at}")
                return Evaluate(self.value(x), self.new(p), at, coordinates)
            case {"sum": dict(terms), "is": str(out), **rest} if terms and not rest:
                read = {self.value(name): self.operator(c) for name, c in terms.items()}
                return Combine(self.new(out), read)
            case {"noise": str(out), **rest} if not rest:
                return Draw(self.new(out), next(self.draws))
            case {"arrive": str(x), "level": level, **rest} if not rest:
                return Arrive(self.value(x), self.level(level))
        raise ValueError(f"there is no instruction {line!r}")

    def level(self, written: Any) -> Level:
        match written:
            case {"t": t, "A": a, "R": r, **rest} if not rest:
                time = float(t) if t in ("inf", "-inf") else _number(t)
                return Level(time, self.operator(a), self.operator(r))
        raise ValueError(f"{written!r} is not a level")

    def operator(self, written: Any) -> Operator:
        """An operator of the kind and the size of the first."""
        found = _read_operator(written)
        like = self.like = self.like or found
        if type(found) is not type(like) or found.entries.shape != like.entries.shape:
            raise ValueError(f"{_said(found)} is there with {_said(like)} at the start")
        return found


def _said(operator: Operator) -> str:
    shape = operator.entries.shape
    return f"a {operator.kind}" + f" of {' by '.join(map(str, shape))} numbers" * bool(shape)


def _level(level: Level) -> dict[str, Any]:
    # Clean data may be infinitely far in time, which JSON cannot say.
    t = level.t if math.isfinite(level.t) else str(level.t)
    return {"t": t, "A": _operator(level.A), "R": _operator(level.R)}


def _operator(operator: Operator) -> Any:
    """The entries: a number as it is, others as {kind: nested lists of numbers}."""
    if isinstance(operator, Scalar):
        return operator.value
    if operator.kind is None:
        raise TypeError(f"{type(operator).__name__} cannot be written down: its kind has no name")
    return {operator.kind: operator.entries.tolist()}


def _read_operator(written: Any) -> Operator:
    if isinstance(written, dict) and len(written) == 1:
        ((kind, entries),) = written.items()
        if kind in Operator.kinds:
            return Operator.kinds[kind].of(_array(_numbers(entries)))
    return Scalar(_number(written))


def _numbers(entries: Any) -> Any:
    return [_numbers(e) for e in entries] if isinstance(entries, list) else _number(entries)


def _array(numbers: Any) -> np.ndarray:
    try:
        return np.array(numbers, dtype=np.float64)
    except ValueError:
        raise ValueError(f"{numbers!r} is not a rectangle of numbers") from None


def _number(value: Any) -> float:
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not real or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    if abs(value) > LARGEST:
        raise ValueError(f"{value!r} is no number of float32, which states may be")
    return float(value)
