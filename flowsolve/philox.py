"""Philox4x64-10 (Salmon, Moraes, Dror and Shaw 2011): random words as a function of a key and a
counter.

A block of four 64-bit words is ten rounds on a counter (c0, c1, c2, c3) with a key (k0, k1). In
each

    c0, c1, c2, c3 = hi(M1 c2) ^ c1 ^ k0, lo(M1 c2), hi(M0 c0) ^ c3 ^ k1, lo(M0 c0)

and the key grows by (W0, W1), all modulo 2⁶⁴. Blocks are numbered by c0, from 1. The words are
NumPy's bit generator's, whose raw stream is promised, or come from operations on integer tensors,
which wrap around, on any device; they are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

_M = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_W = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_LOW = 0xFFFFFFFF


def signed(word: int) -> int:
    """The 64-bit integer of the same bits that a tensor can hold."""
    word %= 2**64
    return word - 2**64 if word >= 2**63 else word


class Serial:
    """Words from NumPy's generator, key after key: the way for few keys and many words each."""

    def __init__(self) -> None:
        self._bits = np.random.Philox(key=0)
        # Plain lists are read faster than arrays.
        self._state: Any = {**self._bits.state, "buffer": [0] * 4}

    def words(self, key: tuple[int, int], counter: Sequence[int], n: int) -> np.ndarray:
        """The first n of ``key`` with ``counter`` = (c1, c2, c3), as int64."""
        self._state["state"] = {"key": key, "counter": (0, *counter)}
        self._bits.state = self._state
        return self.more(n)

    def more(self, n: int) -> np.ndarray:
        """The next n after those."""
        return self._bits.random_raw(n).view(np.int64)


class Parallel:
    """Words from integer tensors, for all keys at once: ``keys`` is a pair of integer tensors (n,)
    or numbers.

    What depends on the keys alone is made here, so that :meth:`words` launches kernels and neither
    loops over the keys nor copies anything to the device.
    """

    def __init__(self, keys: tuple[Tensor | int, Tensor | int], n: int, device: torch.device):
        self._n, self._device = n, device
        self._grow = torch.tensor([[[signed(w)]] for w in _W], device=device)
        self._keys = [self._lanes(keys)]
        for _ in range(9):
            self._keys.append(self._keys[-1] + self._grow)
        self._m = torch.tensor([[[signed(m)]] for m in _M], device=device)
        self._m_low, self._m_high = self._m & _LOW, (self._m >> 32) & _LOW

    def _lanes(self, keys: tuple[Tensor | int, Tensor | int]) -> Tensor:
        n, device = self._n, self._device
        whole = (
            k if isinstance(k, Tensor) else torch.full((n,), signed(k), device=device) for k in keys
        )
        return torch.stack([k.to(device) for k in whole])[..., None]

    def turn_to(self, keys: tuple[Tensor | int, Tensor | int]) -> None:
        """Give words of other keys, as many, from the same memory: to kernels that know it."""
        self._keys[0].copy_(self._lanes(keys))
        for before, key in zip(self._keys, self._keys[1:], strict=False):
            torch.add(before, self._grow, out=key)

    def words(self, counter: Sequence[int], blocks: range, rows: slice = slice(None)) -> Tensor:
        """Those of the ``blocks`` of the keys in ``rows``, (keys, 4 len(blocks)) of int64."""
        c0 = torch.arange(blocks.start, blocks.stop, device=self._m.device)
        c1, c2, c3 = (torch.full_like(c0, signed(word)) for word in counter)
        x, y = torch.stack([c0, c2])[:, None], torch.stack([c1, c3])[:, None]
        for key in self._keys:
            high, low = self._product(x)
            x, y = high.flip(0) ^ y ^ key[:, rows], low.flip(0)
        return torch.stack([x[0], y[0], x[1], y[1]], -1).flatten(1)

    def _product(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The upper and the lower 64 bits of M times x, without a sign."""
        low, high = x & _LOW, (x >> 32) & _LOW
        middle = high * self._m_low + ((low * self._m_low >> 32) & _LOW)
        other = low * self._m_high + (middle & _LOW)
        upper = high * self._m_high + ((middle >> 32) & _LOW) + ((other >> 32) & _LOW)
        return upper, x * self._m
