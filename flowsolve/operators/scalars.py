"""Operators that are numbers: one for a whole batch, one for each sample, one for each entry."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .base import Operator

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, init=False)
class Scalar(Operator):
    """Multiplication by one number: the operators of VP, VE, EDM and rectified flow.

    Examples:
        >>> flowsolve.operators.Scalar(2.0) @ torch.ones(1, 3)
        tensor([[2., 2., 2.]])
    """

    kind = "number"

    value: float

    def __init__(self, value: float) -> None:
        # The quick way: a plan makes these by the thousand. A NumPy number's comparisons are no
        # truth values of Python's.
        vars(self)["value"] = float(value)

    @property
    def entries(self) -> np.ndarray:
        return np.array(self.value)

    @classmethod
    def of(cls, entries: np.ndarray) -> Scalar:
        if entries.ndim:
            raise ValueError(f"{entries.tolist()!r} is not a finite number")
        return cls(float(entries))

    def compose(self, other: Scalar) -> Scalar:
        return Scalar(self.value * other.value)

    def apply(self, x: Tensor) -> Tensor:
        return x.clone() if self.value == 1.0 else x.mul(self._tensor)

    @cached_property
    def _tensor(self) -> Tensor:
        # Multiplying by a Python number makes this tensor anew each time, at a fifth of the cost of
        # a small state's product.
        with torch.inference_mode(False):  # it may be asked for gradients later
            return torch.tensor(self.value, dtype=torch.float64, device="cpu")

    def add_to(self, out: Tensor, x: Tensor) -> Tensor:
        return out.add_(x, alpha=self.value)

    @staticmethod
    def sum_of(
        operators: Sequence[Scalar], tensors: Sequence[Tensor], reuse: bool = False
    ) -> Tensor:
        # The inner loop of nearly every run: fewer calls of Python than the one it takes the place
        # of, and where memory can be used again, less of it.
        first, x, start = operators[0], tensors[0], 1
        if first.value == 1.0:
            if reuse:
                out = x
            elif len(tensors) > 1:
                out, start = torch.add(x, tensors[1], alpha=operators[1].value), 2
            else:
                out = x.clone()
        else:
            out = x.mul_(first._tensor) if reuse else x.mul(first._tensor)
        for k in range(start, len(tensors)):
            out.add_(tensors[k], alpha=operators[k].value)
        return out

    def __add__(self, other: Scalar) -> Scalar:
        return Scalar(self.value + other.value)

    def __mul__(self, factor: float) -> Scalar:
        return Scalar(self.value * factor)

    @staticmethod
    def mixed(operators: Sequence[Any], factors: Sequence[float]) -> Scalar:
        return Scalar(sum(o.value * f for o, f in zip(operators, factors, strict=True)))

    def eye(self) -> Scalar:
        return Scalar(1.0)

    def inverse(self) -> Scalar:
        return Scalar(1.0 / self.value)

    def root(self) -> Scalar:
        return Scalar(math.sqrt(self.value))

    def excess(self, quieter: Scalar) -> Scalar:
        return Scalar(
            math.sqrt(max(0.0, (self.value - quieter.value) * (self.value + quieter.value)))
        )

    @property
    def mean_square(self) -> float:
        return self.value**2

    @staticmethod
    def each(operators: Sequence[Scalar], x: Tensor) -> Tensor:
        return Rows(np.array([o.value for o in operators])).apply(x)

    @property
    def singular(self) -> bool:
        return self.value == 0.0

    @property
    def zero(self) -> bool:
        return self.value == 0.0

    @property
    def one(self) -> bool:
        return self.value == 1.0

    def __repr__(self) -> str:
        return f"{self.value:.6g}"


@dataclass(frozen=True, eq=False)
class Entrywise(Operator):
    """Multiplication of every entry, in the operators' basis, by a number of its own.

    Attributes:
        value: the numbers, in float64.

    Examples:
        >>> import numpy as np
        >>> flowsolve.operators.Rows(np.array([1.0, 2.0])).inverse().entries
        array([1. , 0.5])
    """

    value: np.ndarray

    @property
    def entries(self) -> np.ndarray:
        return self.value

    @classmethod
    def of(cls, entries: np.ndarray) -> Self:
        return cls(entries)

    def compose(self, other: Self) -> Self:
        return type(self)(self.value * other.value)

    def __add__(self, other: Self) -> Self:
        return type(self)(self.value + other.value)

    def __mul__(self, factor: float) -> Self:
        return type(self)(self.value * factor)

    def eye(self) -> Self:
        return type(self)(np.ones_like(self.value))

    def inverse(self) -> Self:
        if self.singular:
            raise ZeroDivisionError("one of the numbers is zero")
        return type(self)(1.0 / self.value)

    def root(self) -> Self:
        if (self.value < 0).any():
            raise ValueError("one of the numbers is negative")
        return type(self)(np.sqrt(self.value))

    def excess(self, quieter: Self) -> Self:
        return type(self)(
            np.sqrt(np.maximum(0.0, (self.value - quieter.value) * (self.value + quieter.value)))
        )

    @property
    def mean_square(self) -> float:
        return float(np.square(self.value).mean())

    @property
    def singular(self) -> bool:
        return not self.value.all()

    @property
    def zero(self) -> bool:
        return not self.value.any()

    @property
    def one(self) -> bool:
        return bool((self.value == 1.0).all())


@dataclass(frozen=True, eq=False)
class Rows(Entrywise):
    """Multiplication of each sample of a batch by its own number, ``value`` (n,): a :class:`Scalar`
    for every sample.

    A product and a sum are two operations. A kernel that fuses them rounds once where a loop over
    the rest of the batch may round twice, and a sample's last bit would depend on its place in the
    batch.

    Examples:
        >>> import numpy as np
        >>> flowsolve.operators.Rows(np.array([1.0, 2.0])) @ torch.ones(2, 3)
        tensor([[1., 1., 1.],
                [2., 2., 2.]])
    """

    def apply(self, x: Tensor) -> Tensor:
        return x * torch.from_numpy(self.value).to(x.device, x.dtype).view(-1, *[1] * (x.ndim - 1))

    def __repr__(self) -> str:
        return f"{self.value.min():.6g} ... {self.value.max():.6g}"


def multiplication(value: Any) -> Scalar | Rows:
    """The operator that multiplies by a number, or by one number for each sample if ``value`` is an
    array (n,).

    Examples:
        >>> flowsolve.operators.multiplication(0.5) @ torch.ones(1, 2)
        tensor([[0.5000, 0.5000]])
    """
    return Rows(value) if isinstance(value, np.ndarray) else Scalar(value)
