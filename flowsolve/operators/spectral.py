"""Operators that are diagonal in the basis of the cosine transform of a picture.

They act on the last two dimensions of a state. The entries are float64 numbers on the host.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..caching import kept
from .base import Basis, combine
from .scalars import Entrywise, Scalar

EPS = np.finfo(np.float64).eps
#: Sides of pictures are padded to multiples of this for the matrix product, which rounds a sample
#: by its place in the batch otherwise.
WHOLE = 4


@dataclass(frozen=True, eq=False)
class Diagonal(Entrywise):
    """Multiplication of each coefficient of the orthonormal two-dimensional DCT-II by its own
    number, ``value`` (height, width).

    Examples:
        >>> import numpy as np
        >>> mean = flowsolve.operators.Diagonal(np.array([[1.0, 0.0], [0.0, 0.0]]))
        >>> (mean @ torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])).round(decimals=4)
        tensor([[[2.5000, 2.5000],
                 [2.5000, 2.5000]]])
    """

    kind = "dct"
    basis: ClassVar[Basis | None] = Basis(lambda x: transform(x), lambda x: back(x))

    @classmethod
    def of(cls, entries: np.ndarray) -> Diagonal:
        if entries.ndim != 2 or not entries.size:
            raise ValueError(f"{entries.tolist()!r} is not a rectangle of numbers")
        return cls(entries)

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
    def sum_of(operators: Sequence[Any], tensors: Sequence[Tensor], reuse: bool = False) -> Tensor:
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
        return (
            f"{low:.6g}"
            if low == high
            else f"DCT({self.value.flat[0]:.6g} ... {self.value.flat[-1]:.6g})"
        )


@kept
def _cosines(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The orthonormal DCT-II as a matrix: row k is √(2/N) cos(π k (2n + 1)/2N), row 0 divided by
    √2. Padded with zeros."""
    k, n = np.arange(size)[:, None], np.arange(size)
    matrix = np.sqrt(2.0 / size) * np.cos(np.pi * k * (2 * n + 1) / (2 * size))
    matrix[0] *= math.sqrt(0.5)
    with torch.inference_mode(False):
        return torch.from_numpy(np.pad(matrix, (0, -size % WHOLE))).to(dtype=dtype, device=device)


def transform(x: Tensor) -> Tensor:
    """The orthonormal DCT-II of the last two dimensions.

    Examples:
        >>> flowsolve.operators.transform(torch.ones(1, 2, 2)).round(decimals=4)
        tensor([[[2., 0.],
                 [0., 0.]]])
    """
    rows, columns = (_cosines(size, x.dtype, x.device) for size in x.shape[-2:])
    return _between(rows, x, columns.T)


def back(x: Tensor) -> Tensor:
    """The inverse of :func:`transform`.

    Examples:
        >>> x = torch.arange(16.0).reshape(1, 4, 4)
        >>> from flowsolve.operators import back, transform
        >>> torch.allclose(back(transform(x)), x, atol=1e-5)
        True
    """
    rows, columns = (_cosines(size, x.dtype, x.device) for size in x.shape[-2:])
    return _between(rows.T, x, columns)


def _between(rows: Tensor, x: Tensor, columns: Tensor) -> Tensor:
    if x.device.type != "meta" and torch.is_autocast_enabled(x.device.type):
        with torch.autocast(x.device.type, enabled=False):  # that is for the network's products
            return _between(rows, x, columns)
    height, width = x.shape[-2:]
    if height % WHOLE or width % WHOLE:
        x = torch.nn.functional.pad(x, (0, -width % WHOLE, 0, -height % WHOLE))
        return (rows @ (x @ columns))[..., :height, :width]
    return rows @ (x @ columns)
