"""Two conditions in one batch: twice the rows, of which one half is told one, one the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import conditioning as conditions


class _Apart(Exception):
    """The two cannot be put into one batch."""


def doubled(
    one: Mapping[str, Any],
    two: Mapping[str, Any],
    names: Sequence[str],
    n: int,
    device: torch.device,
) -> dict[str, Any] | None:
    """The conditioning of 2n samples, n told ``one`` and n told ``two``; ``names`` is what has a
    row for each sample. None where there is no such conditioning: what is the same for all samples
    and differs between the two cannot be put into one batch."""
    try:
        return {key: _both(value, two[key], key, names, n, device) for key, value in one.items()}
    except _Apart:
        return None


def _both(a: Any, b: Any, path: str, names: Sequence[str], n: int, device: torch.device) -> Any:
    if isinstance(a, Mapping):
        if not isinstance(b, Mapping) or a.keys() != b.keys():
            raise _Apart
        return {k: _both(v, b[k], f"{path}.{k}", names, n, device) for k, v in a.items()}
    if conditions.rows_of(a) is None and conditions.rows_of(b) is None and _same(a, b):
        return a
    if not conditions.declared(path, names):
        if a is b:
            return a
        raise _Apart
    a, b = (_rows(each, n, device) for each in (a, b))
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.dtype != b.dtype or a.device != b.device or a.shape[1:] != b.shape[1:]:
            raise _Apart
        return torch.cat([_spread(a, n), _spread(b, n)])
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and len(a) == len(b) == n:
        return np.concatenate([a, b])
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b) == n:
        return [*a, *b]
    raise _Apart


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, (Tensor, np.ndarray)) or isinstance(b, (Tensor, np.ndarray)):
        return a is b
    return a is b or (type(a) is type(b) and a == b)


def _rows(value: Any, n: int, device: torch.device) -> Any:
    """A whole number stands for a row of it for each sample."""
    if isinstance(value, int) and not isinstance(value, bool):
        return torch.full((n,), value, device=device)
    if isinstance(value, tuple) and not any(isinstance(v, (Tensor, np.ndarray)) for v in value):
        return list(value)
    return value


def _spread(value: Tensor, n: int) -> Tensor:
    """One row is for all samples."""
    if len(value) not in (1, n):
        raise _Apart
    return value.expand(n, *value.shape[1:])
