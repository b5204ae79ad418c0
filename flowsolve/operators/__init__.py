"""What A and R are: numbers, 2×2 blocks, diagonals of a transform."""

from .base import Basis, Operator, combine
from .block import Block
from .scalars import Entrywise, Rows, Scalar, multiplication
from .spectral import Diagonal, back, transform

__all__ = [
    "Basis",
    "Block",
    "Diagonal",
    "Entrywise",
    "Operator",
    "Rows",
    "Scalar",
    "back",
    "combine",
    "multiplication",
    "transform",
]
