r"""Linear operators :math:`A_t, R_t` on states, and the arithmetic the solvers do with them.

A solver only ever needs sums, products, inverses and roots of these operators and their action on a
state. The coefficients are float64 Python or NumPy numbers whatever the dtype of the state they act
on. Scalar processes (VP, VE, EDM, rectified flow) use numbers, CLD 2×2 blocks, blurring diffusion
diagonals of a transform. Another kind is another subclass of :class:`Operator`: solvers and plans
take it as it is, plans' files if its kind has a name. Only the exact denoisers know how to reduce
the states of three kinds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar, overload

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from typing_extensions import Self

V = TypeVar("V")


class Basis(NamedTuple):
    """A basis of the states: the way into it, and the way back.

    Examples:
        >>> into, back = flowsolve.operators.Diagonal.basis
        >>> torch.allclose(back(into(torch.ones(1, 4, 4))), torch.ones(1, 4, 4))
        True
    """

    into: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]


class Operator(ABC):
    """A linear map on states of one sample, applied to a whole batch by ``operator @ x``.

    Examples:
        >>> A, R = flowsolve.VP().level(0.5).A, flowsolve.VP().level(0.5).R
        >>> x = A @ torch.ones(1, 2) + R @ torch.zeros(1, 2)
        >>> (A.inverse() @ A).one
        True
    """

    #: The basis in which :meth:`sum_of` takes and gives tensors; None for that of the states.
    basis: ClassVar[Basis | None] = None
    #: What the files of plans call this kind; None for kinds that no plan has.
    kind: ClassVar[str | None] = None
    #: The kinds by these names.
    kinds: ClassVar[dict[str, type[Operator]]] = {}

    def __init_subclass__(cls, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        if "kind" in cls.__dict__ and cls.kind is not None:
            Operator.kinds[cls.kind] = cls

    def __reduce__(self) -> Any:
        # What an operator has computed about itself stays at home when it is pickled.
        return type(self), tuple(getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]

    @property
    @abstractmethod
    def entries(self) -> np.ndarray:
        """The numbers that the operator is made of, in float64."""

    @classmethod
    @abstractmethod
    def of(cls, entries: np.ndarray) -> Self:
        """The operator with these :attr:`entries`. Raises ValueError for those of another kind."""

    def on_entries(self, row: np.ndarray) -> np.ndarray:
        """The entries of the product with each operator of a row of them, (k, *entries)."""
        return self.entries * row

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
        """A square root ``r`` with ``r @ r.T = self``; raises ``ValueError`` if the operator is not
        positive."""

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
    def sum_of(operators: Sequence[Any], tensors: Sequence[Tensor], reuse: bool = False) -> Tensor:
        """Σ operator @ tensor in the operators' basis, for operators of this kind: a tensor of the
        first one's dtype, in new memory or, if ``reuse``, perhaps in that of the first."""
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
    def __matmul__(self, other: V) -> V: ...
    def __matmul__(self, other: Any) -> Any:
        if type(other) is type(self):
            return self.compose(other)
        return self.apply(other) if isinstance(other, Tensor) else NotImplemented


def combine(operators: Iterable[Operator], tensors: Iterable[Tensor]) -> Tensor:
    """The linear combination Σ operator @ tensor of states, in a fresh tensor of the first one's
    dtype.

    Examples:
        >>> level = flowsolve.RectifiedFlow().level(0.25)
        >>> x0, eps = torch.ones(1, 2), torch.zeros(1, 2)
        >>> flowsolve.operators.combine((level.A, level.R), (x0, eps))
        tensor([[0.7500, 0.7500]])
    """
    operators = tuple(operators)
    basis = operators[0].basis
    if basis is None:
        return operators[0].sum_of(operators, tuple(tensors))
    return basis.back(operators[0].sum_of(operators, [basis.into(x) for x in tensors]))
