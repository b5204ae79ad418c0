r"""Operators that are matrices: 2×2 blocks on (position, velocity), and diagonals in the basis of the cosine transform.

Both act on whole states: a :class:`Block` on a state whose channels are all positions, then all velocities; a
:class:`Diagonal` on the last two dimensions of a picture. Their entries are float64 numbers on the host, like those of
:class:`~flowsolve.operators.Scalar`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .operators import Basis, Entrywise, Operator, Scalar, combine

EPS = np.finfo(np.float64).eps
#: Sides of pictures are padded to multiples of this for the matrix product, which rounds a sample by its place in the batch otherwise.
WHOLE = 4


@dataclass(frozen=True)
class Block(Operator):
    """((a, b), (c, d)) on the pair (position, velocity), the two halves of a state's first dimension."""

    a: float
    b: float
    c: float
    d: float

    @classmethod
    def of(cls, entries: Any) -> Block:
        """The block with the entries of a 2×2 array."""
        (a, b), (c, d) = entries
        return cls(float(a), float(b), float(c), float(d))

    @property
    def entries(self) -> np.ndarray:
        """(2, 2)."""
        return np.array([[self.a, self.b], [self.c, self.d]])

    @property
    def T(self) -> Block:
        return Block(self.a, self.c, self.b, self.d)

    def compose(self, other: Block) -> Block:
        a, b, c, d = other.a, other.b, other.c, other.d
        return Block(self.a * a + self.b * c, self.a * b + self.b * d, self.c * a + self.d * c, self.c * b + self.d * d)

    def apply(self, x: Tensor) -> Tensor:
        return self.sum_of([self], [x])

    @staticmethod
    def sum_of(operators: Sequence[Any], tensors: Sequence[Tensor]) -> Tensor:
        out = torch.zeros_like(tensors[0])  # and all in place: to join two halves would cost more
        half = out.shape[1] // 2
        parts = [(x.narrow(1, 0, half), x.narrow(1, half, half)) for x in tensors]
        for row in (0, 1):
            rows = out.narrow(1, row * half, half)
            for operator, (position, velocity) in zip(operators, parts, strict=True):
                of_position, of_velocity = (operator.c, operator.d) if row else (operator.a, operator.b)
                if of_position:
                    rows.add_(position, alpha=of_position)
                if of_velocity:
                    rows.add_(velocity, alpha=of_velocity)
        return out

    @staticmethod
    def each(operators: Sequence[Any], x: Tensor) -> Tensor:
        half = x.shape[1] // 2
        numbers = torch.tensor([(o.a, o.b, o.c, o.d) for o in operators], dtype=x.dtype, device=x.device)
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
        """The lower triangular root. What rounding has made negative by less than 1e-12 of the entries is taken for zero."""
        if not (self.a >= -1e-12 * abs(self.d) and self.d >= -1e-12 * abs(self.a)):
            raise ValueError(f"{self!r} is not positive: it has no root")
        beside = 0.5 * (self.b + self.c)
        first, cross, rest = _factor(self.a, beside, self.d)
        if rest < -1e-6 * abs(self.d) or (first == 0.0 and abs(beside) > 1e-6 * abs(self.d)):
            raise ValueError(f"{self!r} is not positive: it has no root")
        return Block(first, 0.0, cross, math.sqrt(max(0.0, rest)))

    def excess(self, quieter: Block) -> Block:
        # RRᵀ − QQᵀ is exact, entry by entry, to rounding of RRᵀ. Over a short step that is more than the smaller variance has: so the
        # larger comes first, and what rounding leaves of the other below zero is none.
        s = self.compose(self.T) + quieter.compose(quieter.T) * -1.0
        first, cross, rest = _factor(max(s.a, s.d), 0.5 * (s.b + s.c), min(s.a, s.d))
        rest = math.sqrt(max(0.0, rest))
        return Block(rest, cross, 0.0, first) if s.d > s.a else Block(first, 0.0, cross, rest)

    @property
    def mean_square(self) -> float:
        return 0.5 * (self.a**2 + self.b**2 + self.c**2 + self.d**2)

    @property
    def singular(self) -> bool:
        return self.det == 0.0

    @property
    def zero(self) -> bool:
        return self.a == self.b == self.c == self.d == 0.0

    @property
    def one(self) -> bool:
        return self == self.eye()

    def __repr__(self) -> str:
        a, b, c, d = (entry + 0.0 for entry in (self.a, self.b, self.c, self.d))  # no -0
        return f"[{a:.6g} {b:.6g}; {c:.6g} {d:.6g}]"


def _factor(first: float, beside: float, second: float) -> tuple[float, float, float]:
    """Cholesky's factor of ((first, beside), (beside, second)): its first column, and the square of the number that is left."""
    root = math.sqrt(max(0.0, first))
    cross = beside / root if root else 0.0
    return root, cross, second - cross * cross


@dataclass(frozen=True, eq=False)
class Diagonal(Entrywise):
    """Multiplication of each coefficient of the orthonormal two-dimensional DCT-II by its own number, ``value`` (height, width)."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Diagonal) and np.array_equal(self.value, other.value)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(self.value.tobytes())

    def apply(self, x: Tensor) -> Tensor:
        return combine((self,), (x,))

    @staticmethod
    def sum_of(operators: Sequence[Any], tensors: Sequence[Tensor]) -> Tensor:
        first, x = operators[0], tensors[0]
        out = x * first._tensor(x) if first.number is None else first.number.apply(x)
        for operator, x in zip(operators[1:], tensors[1:], strict=True):
            if operator.number is None:
                out.addcmul_(x, operator._tensor(x))
            else:
                operator.number.add_to(out, x)
        return out

    @staticmethod
    def each(operators: Sequence[Any], x: Tensor) -> Tensor:
        values = torch.from_numpy(np.stack([o.value for o in operators])).to(x)
        return back(transform(x) * values.view(len(values), *[1] * (x.ndim - 3), *values.shape[1:]))

    def _tensor(self, x: Tensor) -> Tensor:
        """The numbers in x's dtype, on its device: copied there once."""
        key = (x.dtype, x.device)
        if key not in self._copies:
            with torch.inference_mode(False):  # it may be asked for gradients later
                self._copies[key] = torch.from_numpy(self.value).to(x.device, x.dtype)
        return self._copies[key]

    @cached_property
    def _copies(self) -> dict[Any, Tensor]:
        return {}

    @cached_property
    def number(self) -> Scalar | None:
        """The one number that all are, to rounding."""
        low, high = float(self.value.min()), float(self.value.max())
        return Scalar(high) if high - low <= 4.0 * EPS * max(-low, high) else None

    def __repr__(self) -> str:
        low, high = self.value.min(), self.value.max()
        return f"{low:.6g}" if low == high else f"DCT({self.value.flat[0]:.6g} ... {self.value.flat[-1]:.6g})"


@lru_cache(maxsize=64)
def _cosines(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The orthonormal DCT-II as a matrix: row k is √(2/N) cos(π k (2n + 1)/2N), row 0 divided by √2. Padded with zeros."""
    k, n = np.arange(size)[:, None], np.arange(size)
    matrix = np.sqrt(2.0 / size) * np.cos(np.pi * k * (2 * n + 1) / (2 * size))
    matrix[0] *= math.sqrt(0.5)
    with torch.inference_mode(False):
        return torch.from_numpy(np.pad(matrix, (0, -size % WHOLE))).to(dtype=dtype, device=device)


def transform(x: Tensor) -> Tensor:
    """The orthonormal DCT-II of the last two dimensions."""
    rows, columns = (_cosines(size, x.dtype, x.device) for size in x.shape[-2:])
    return _between(rows, x, columns.T)


def back(x: Tensor) -> Tensor:
    """The inverse of :func:`transform`."""
    rows, columns = (_cosines(size, x.dtype, x.device) for size in x.shape[-2:])
    return _between(rows.T, x, columns)


def _between(rows: Tensor, x: Tensor, columns: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    if height % WHOLE or width % WHOLE:
        x = torch.nn.functional.pad(x, (0, -width % WHOLE, 0, -height % WHOLE))
        return (rows @ (x @ columns))[..., :height, :width]
    return rows @ (x @ columns)


Diagonal.basis = Basis(transform, back)
