"""Operators that are 2×2 matrices on (position, velocity).

They act on whole states, whose channels are all positions, then all velocities. The entries are
float64 numbers on the host.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .base import Operator


@dataclass(frozen=True)
class Block(Operator):
    """((a, b), (c, d)) on the pair (position, velocity), the two halves of a state's first
    dimension.

    Examples:
        >>> swap = flowsolve.operators.Block(0.0, 1.0, 1.0, 0.0)
        >>> swap @ torch.tensor([[1.0, 2.0]])  # a position, a velocity
        tensor([[2., 1.]])
    """

    kind = "block"

    a: float
    b: float
    c: float
    d: float

    @classmethod
    def of(cls, entries: Any) -> Block:
        """The block with the entries of a 2×2 array."""
        if np.shape(entries) != (2, 2):
            raise ValueError(f"{entries!r} is not a 2x2 matrix")
        (a, b), (c, d) = entries
        return cls(float(a), float(b), float(c), float(d))

    def on_entries(self, row: np.ndarray) -> np.ndarray:
        return self.entries @ row

    @property
    def entries(self) -> np.ndarray:
        """(2, 2)."""
        return np.array([[self.a, self.b], [self.c, self.d]])

    @property
    def T(self) -> Block:
        return Block(self.a, self.c, self.b, self.d)

    def compose(self, other: Block) -> Block:
        a, b, c, d = other.a, other.b, other.c, other.d
        return Block(
            self.a * a + self.b * c,
            self.a * b + self.b * d,
            self.c * a + self.d * c,
            self.c * b + self.d * d,
        )

    def apply(self, x: Tensor) -> Tensor:
        return self.sum_of([self], [x])

    @staticmethod
    def sum_of(operators: Sequence[Any], tensors: Sequence[Tensor], reuse: bool = False) -> Tensor:
        out = torch.zeros_like(tensors[0])  # and all in place: to join two halves would cost more
        half = out.shape[1] // 2
        parts = [(x.narrow(1, 0, half), x.narrow(1, half, half)) for x in tensors]
        for row in (0, 1):
            rows = out.narrow(1, row * half, half)
            for operator, (position, velocity) in zip(operators, parts, strict=True):
                of_position, of_velocity = (
                    (operator.c, operator.d) if row else (operator.a, operator.b)
                )
                if of_position:
                    rows.add_(position, alpha=of_position)
                if of_velocity:
                    rows.add_(velocity, alpha=of_velocity)
        return out

    @staticmethod
    def each(operators: Sequence[Any], x: Tensor) -> Tensor:
        half = x.shape[1] // 2
        numbers = torch.tensor(
            [(o.a, o.b, o.c, o.d) for o in operators], dtype=x.dtype, device=x.device
        )
        a, b, c, d = (column.view(-1, *[1] * (x.ndim - 1)) for column in numbers.unbind(1))
        return torch.cat([a * x[:, :half] + b * x[:, half:], c * x[:, :half] + d * x[:, half:]], 1)

    def __add__(self, other: Block) -> Block:
        return Block(self.a + other.a, self.b + other.b, self.c + other.c, self.d + other.d)

    def __mul__(self, factor: float) -> Block:
        return Block(self.a * factor, self.b * factor, self.c * factor, self.d * factor)

    def eye(self) -> Block:
        return Block(1.0, 0.0, 0.0, 1.0)

    @property
    def det(self) -> float:
        return self.a * self.d - self.b * self.c

    def inverse(self) -> Block:
        det = self.det
        return Block(self.d / det, -self.b / det, -self.c / det, self.a / det)

    def root(self) -> Block:
        """The lower triangular root. What rounding has made negative by less than 1e-12 of the
        entries is taken for zero."""
        if not (self.a >= -1e-12 * abs(self.d) and self.d >= -1e-12 * abs(self.a)):
            raise ValueError(f"{self!r} is not positive: it has no root")
        beside = 0.5 * (self.b + self.c)
        first, cross, rest = _factor(self.a, beside, self.d)
        if rest < -1e-6 * abs(self.d) or (first == 0.0 and abs(beside) > 1e-6 * abs(self.d)):
            raise ValueError(f"{self!r} is not positive: it has no root")
        return Block(first, 0.0, cross, math.sqrt(max(0.0, rest)))

    def excess(self, quieter: Block) -> Block:
        # RRᵀ − QQᵀ is exact, entry by entry, to rounding of RRᵀ. Over a short step that is more
        # than the smaller variance has: so the larger comes first, and what rounding leaves of the
        # other below zero is none.
        s = self.compose(self.T) + quieter.compose(quieter.T) * -1.0
        first, cross, rest = _factor(max(s.a, s.d), 0.5 * (s.b + s.c), min(s.a, s.d))
        rest = math.sqrt(max(0.0, rest))
        return Block(rest, cross, 0.0, first) if s.d > s.a else Block(first, 0.0, cross, rest)

    @property
    def mean_square(self) -> float:
        return 0.5 * (self.a**2 + self.b**2 + self.c**2 + self.d**2)

    @property
    def singular(self) -> bool:
        return bool(self.det == 0.0)

    @property
    def zero(self) -> bool:
        return bool(self.a == self.b == self.c == self.d == 0.0)

    def __repr__(self) -> str:
        a, b, c, d = (entry + 0.0 for entry in (self.a, self.b, self.c, self.d))  # no -0
        return f"[{a:.6g} {b:.6g}; {c:.6g} {d:.6g}]"


def _factor(first: float, beside: float, second: float) -> tuple[float, float, float]:
    """Cholesky's factor of ((first, beside), (beside, second)): its first column, and the square of
    the number that is left."""
    root = math.sqrt(max(0.0, first))
    cross = beside / root if root else 0.0
    return root, cross, second - cross * cross
