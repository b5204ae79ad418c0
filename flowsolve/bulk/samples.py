"""Samples that are next to each other, and what a shard of them is written as: a file of its own,
or its chunk of an array.

A shard is a tensor of samples (k, *shape) and, where they were told something, columns with a row
for each of them. Files of the same content are the same to the byte.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ..typing import Float

#: A column of conditions: numbers (k, ...), or strings.
Column = np.ndarray | list[str]


class Samples(NamedTuple):
    """Samples that are next to each other.

    Attributes:
        first: the number of the first.
        x: the samples, (n, *shape), on the CPU.
        conditions: what each was told, by name: tensors (n, ...), lists of strings.

    Examples:
        >>> model = flowsolve.exact.Dirac(flowsolve.VP(), [1.0])
        >>> _ = flowsolve.generate(model, 3, "sevens", nfe=1, first=7)
        >>> next(flowsolve.bulk.read("sevens")).first
        7
    """

    first: int
    x: Float[Tensor, "n *shape"]
    conditions: dict[str, Any]


class Format(ABC):
    """How shards are written and read."""

    #: The extra that installs what it needs.
    extra: str
    #: The modules it needs.
    needs: tuple[str, ...]

    def check(self, shape: Sequence[int]) -> None:  # noqa: B027
        """Raise ValueError for samples that cannot be written so."""

    def prepare(  # noqa: B027
        self, folder: Path, n: int, shard: int, like: Tensor, columns: Mapping[str, Column]
    ) -> None:
        """Make what all shards need, once, for n samples like ``like`` (*shape) in shards of
        ``shard``; ``columns`` are a few rows of what they are told."""

    @abstractmethod
    def write(
        self, folder: Path, k: int, start: int, first: int, x: Tensor, columns: Mapping[str, Column]
    ) -> list[str]:
        """Write shard k: samples x (k, *shape) on the CPU, from the row ``start`` of the whole and
        the number ``first``. Returns the names of its files."""

    def kept(self, x: Tensor) -> Tensor:
        """What of samples x is kept."""
        return x

    @abstractmethod
    def read(self, folder: Path, files: Sequence[str], start: int, first: int, n: int) -> Samples:
        """The n samples of a shard, as they were written."""
