r"""Linear operators :math:`A_t, R_t` on states, and the arithmetic the solvers do with them.

A solver only ever needs sums, products, inverses and roots of these operators and their action on a state. The
coefficients are float64 Python or NumPy numbers whatever the dtype of the state they act on. A scalar process (VP, VE,
EDM, rectified flow) uses :class:`Scalar`; another kind of operator is another subclass of :class:`Operator`, and
nothing else in the library changes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, overload

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from typing_extensions import Self


class Basis(NamedTuple):
    """A basis of the states: the way into it, and the way back."""

    into: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]


class Operator(ABC):
    """A linear map on states of one sample, applied to a whole batch by ``operator @ x``."""

    #: The basis in which :meth:`sum_of` takes and gives tensors; None for that of the states.
    basis: ClassVar[Basis | None] = None

    @abstractmethod
    def compose(self, other: Any) -> Operator: ...

    @abstractmethod
    def apply(self, x: Tensor) -> Tensor:
        """A new tensor, the operator applied to every sample of ``x`` (batch, *shape)."""

    def add_to(self, out: Tensor, x: Tensor) -> Tensor:
        """``out += self @ x``, in place: the inner loop of every linear combination."""
        return out.add_(self.apply(x))

    def added_to(self, base: Tensor, x: Tensor) -> Tensor:
        """``base + self @ x``, a new tensor."""
        return base + self.apply(x)

    @abstractmethod
    def __add__(self, other: Any) -> Operator: ...

    @abstractmethod
    def __mul__(self, factor: float) -> Operator: ...

    @staticmethod
    def mixed(operators: Sequence[Any], factors: Sequence[float]) -> Operator:
        """Σ factor · operator, for operators of this kind."""
        total = operators[0] * factors[0]
        for operator, factor in zip(operators[1:], factors[1:], strict=True):
            total = total + operator * factor
        return total

    @abstractmethod
    def eye(self) -> Operator:
        """The identity of the same kind."""

    @abstractmethod
    def inverse(self) -> Operator:
        """The inverse; raises ``ZeroDivisionError`` where :attr:`singular`."""

    @abstractmethod
    def root(self) -> Operator:
        """A square root ``r`` with ``r @ r.T = self``; raises ``ValueError`` if the operator is not positive."""

    @abstractmethod
    def excess(self, quieter: Any) -> Operator:
        """The root of self selfᵀ − quieter quieterᵀ: the noise that is missing in ``quieter``."""

    @property
    @abstractmethod
    def mean_square(self) -> float:
        """The mean square of the singular values."""

    @staticmethod
    def each(operators: Sequence[Any], x: Tensor) -> Tensor:
        """Operator i applied to sample i of ``x``, for operators of this kind."""
        return torch.cat([o @ x[i : i + 1] for i, o in enumerate(operators)])

    @staticmethod
    def sum_of(operators: Sequence[Any], tensors: Sequence[Tensor]) -> Tensor:
        """Σ operator @ tensor in the operators' basis, a fresh tensor of the first one's dtype, for operators of this kind."""
        first, *rest = operators
        if first.one and rest:
            out, start = rest[0].added_to(tensors[0], tensors[1]), 2
        else:
            out, start = first.apply(tensors[0]), 1
        for operator, x in zip(operators[start:], tensors[start:], strict=True):
            operator.add_to(out, x)
        return out

    @property
    @abstractmethod
    def singular(self) -> bool: ...

    @property
    @abstractmethod
    def zero(self) -> bool: ...

    @property
    def one(self) -> bool:
        return self == self.eye()

    @property
    def T(self) -> Operator:
        """The transpose; numbers and diagonals are their own."""
        return self

    def __sub__(self, other: Any) -> Operator:
        return self + other * -1.0

    def __rmul__(self, factor: float) -> Operator:
        return self * factor

    def __neg__(self) -> Operator:
        return self * -1.0

    @overload
    def __matmul__(self, other: Operator) -> Operator: ...
    @overload
    def __matmul__(self, other: Tensor) -> Tensor: ...
    def __matmul__(self, other: Any) -> Any:
        if isinstance(other, Operator):
            return self.compose(other)
        if isinstance(other, Tensor):
            return self.apply(other)
        return NotImplemented


@dataclass(frozen=True)
class Scalar(Operator):
    """Multiplication by one number: the operators of VP, VE, EDM and rectified flow."""

    value: float

    def compose(self, other: Scalar) -> Scalar:
        return Scalar(self.value * other.value)

    def apply(self, x: Tensor) -> Tensor:
        return x.clone() if self.value == 1.0 else x.mul(self._tensor)

    @cached_property
    def _tensor(self) -> Tensor:
        # Multiplying by a Python number makes this tensor anew each time, at a fifth of the cost of a small state's product.
        with torch.inference_mode(False):  # it may be asked for gradients later
            return torch.tensor(self.value, dtype=torch.float64)

    def add_to(self, out: Tensor, x: Tensor) -> Tensor:
        return out.add_(x, alpha=self.value)

    def added_to(self, base: Tensor, x: Tensor) -> Tensor:
        return torch.add(base, x, alpha=self.value)

    def __add__(self, other: Scalar) -> Scalar:
        return Scalar(self.value + other.value)

    def __mul__(self, factor: float) -> Scalar:
        return Scalar(self.value * factor)

    @staticmethod
    def mixed(operators: Sequence[Scalar], factors: Sequence[float]) -> Scalar:
        return Scalar(sum(o.value * f for o, f in zip(operators, factors, strict=True)))

    def eye(self) -> Scalar:
        return Scalar(1.0)

    def inverse(self) -> Scalar:
        return Scalar(1.0 / self.value)

    def root(self) -> Scalar:
        return Scalar(math.sqrt(self.value))

    def excess(self, quieter: Scalar) -> Scalar:
        return Scalar(math.sqrt(max(0.0, (self.value - quieter.value) * (self.value + quieter.value))))

    @property
    def mean_square(self) -> float:
        return self.value**2

    @staticmethod
    def each(operators: Sequence[Scalar], x: Tensor) -> Tensor:
        return torch.tensor([o.value for o in operators], dtype=x.dtype, device=x.device).view(-1, *[1] * (x.ndim - 1)) * x

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
    """

    value: np.ndarray

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
        return type(self)(np.sqrt(np.maximum(0.0, (self.value - quieter.value) * (self.value + quieter.value))))

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
    """Multiplication of each sample of a batch by its own number, ``value`` (n,): a :class:`Scalar` for every sample.

    A product and a sum are two operations. A kernel that fuses them rounds once where a loop over the rest of the batch
    may round twice, and a sample's last bit would depend on its place in the batch.
    """

    def apply(self, x: Tensor) -> Tensor:
        return x * torch.from_numpy(self.value).to(x.device, x.dtype).view(-1, *[1] * (x.ndim - 1))

    def __repr__(self) -> str:
        return f"{self.value.min():.6g} ... {self.value.max():.6g}"


def multiplication(value: Any) -> Scalar | Rows:
    """The operator that multiplies by a number, or by one number for each sample if ``value`` is an array (n,)."""
    return Rows(value) if isinstance(value, np.ndarray) else Scalar(value)


def combine(operators: Iterable[Operator], tensors: Iterable[Tensor]) -> Tensor:
    """The linear combination Σ operator @ tensor of states, in a fresh tensor of the first one's dtype."""
    operators = tuple(operators)
    basis = operators[0].basis
    if basis is None:
        return operators[0].sum_of(operators, tuple(tensors))
    return basis.back(operators[0].sum_of(operators, [basis.into(x) for x in tensors]))
