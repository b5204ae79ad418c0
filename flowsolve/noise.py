"""Random streams: the noise of sample i depends on the seed and on i alone.

Each draw is made by a counter-based generator (Philox) whose key is (seed, i) and whose counter
starts at the draw's number, so it does not matter how a batch is split, in which order or in how
many processes it is computed, or on which device. Values are drawn in float32, so a float64 run
sees the same noise as a float32 one.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def normal(
    seed: int,
    samples: range,
    draw: int,
    shape: Sequence[int],
    dtype: torch.dtype,
    device: torch.device | None,
) -> Tensor:
    """Standard normal noise, (len(samples), *shape): draw number ``draw`` of every sample (0 is its
    start)."""
    out = np.empty((len(samples), *shape), dtype=np.float32)
    bits = np.random.Philox(key=[seed, 0], counter=[0, 0, 0, draw])
    generator, state = np.random.Generator(bits), bits.state
    for row, i in zip(out, samples, strict=True):
        state["state"]["key"][1] = i
        bits.state = state  # the stream's beginning for sample i, without making a new generator
        generator.standard_normal(dtype=np.float32, out=row)
    return torch.from_numpy(out).to(device=device, dtype=dtype)


def check_seed(seed: int | None) -> int:
    """``seed``, or a fresh one from the operating system for None. Torch's and NumPy's global state
    are not touched."""
    if seed is None:
        return secrets.randbits(63)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed={seed!r}: expected an integer or None")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed={seed!r}: expected 0 <= seed < 2**64")
    return seed
