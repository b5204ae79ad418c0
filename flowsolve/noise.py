"""Random streams: the noise of sample i depends on the seed and on i alone.

Each draw is made by a counter-based generator (:mod:`flowsolve.philox`) whose key is (seed, i) and
whose counter is (position, draw), so it does not matter how a batch is split, in which order or in
how many processes it is computed, or on which device. A draw within a run is known by its *place*:
the time of the level that the run last arrived at, and how many draws were made there before. So a
run that is cut in two draws what it would have drawn in one. Values are float32
(:mod:`flowsolve.quantile`), and a float64 run sees the same noise as a float32 one.
"""

from __future__ import annotations

import math
import secrets
import struct
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .checked import OneSeed, read
from .errors import refused
from .philox import Parallel, Serial, signed
from .quantile import CHUNK, normal_here, normal_of, table_on

#: A seed for all samples, or one for each.
Seed = int | Sequence[int]
#: The blocks of words that are computed in one go on another device than the CPU, and on it.
_BLOCKS, _BLOCKS_HERE = 2**22, CHUNK // 4
#: NumPy's generator is the faster way for fewer samples than this, and for more words of each. It
#: decides about time alone: the words are the same.
_MANY, _SMALL = 512, 16


class Place(NamedTuple):
    """Where in a run noise is drawn: the time of the level that the run last arrived at, and how
    many draws were made there before."""

    time: float
    again: int


class Stream:
    """The noise of one run.

    Args:
        seed: one seed, or one for each sample, which then gets that seed's sample 0.
        samples: the samples' numbers.
        shape: of one sample.
        dtype, device: of what is returned; None for the CPU.
    """

    def __init__(
        self,
        seed: Seed,
        samples: range,
        shape: Sequence[int],
        dtype: torch.dtype,
        device: torch.device | None,
    ) -> None:
        self.seed, self.samples = seed, samples
        self.shape, self.dtype = tuple(shape), dtype
        self.device = torch.device("cpu") if device is None else device

    def numbered(self, draw: int) -> Tensor:
        """Draw number ``draw`` outside of a run, (len(samples), *shape); 0 is a run's start."""
        return self._draw((0, draw, 0))

    def at(self, place: Place) -> Tensor:
        """The draw at a place of a run, (len(samples), *shape)."""
        bits = struct.unpack("<Q", struct.pack("<d", place.time + 0.0))[0]  # −0 is 0
        return self._draw((place.again, bits, 1))

    def node(self, octave: int, node: int) -> Tensor:
        """The normal of a node of a Brownian path, (len(samples), *shape)."""
        return self._draw((node, octave % 2**64, 2))

    def along(self, places: Sequence[Place]) -> Callable[[int], Tensor]:
        """The k-th draw of a run that draws at ``places``, as a function of k."""
        if places and self.device.type != "cpu":
            _ = self._parallel, table_on(self.device)  # nothing is copied when a step draws
        return lambda k: self.at(places[k])

    @cached_property
    def _serial(self) -> Serial:
        return Serial()

    @cached_property
    def _parallel(self) -> Parallel:
        return Parallel(self._pair(), len(self.samples), self.device)

    def _pair(self) -> tuple[Tensor | int, Tensor | int]:
        """The keys: seeds, and numbers of samples."""
        if isinstance(self.seed, int):
            first, end = self.samples.start, self.samples.stop
            signed_first = signed(first)
            numbers = torch.arange(signed_first, signed_first + end - first, device=self.device)
            return self.seed, numbers
        return torch.tensor([signed(seed) for seed in self.seed], device=self.device), 0

    def _draw(self, counter: tuple[int, int, int]) -> Tensor:
        n, size = len(self.samples), math.prod(self.shape)
        here = self.device.type == "cpu"
        if here and (n < _MANY or size > _SMALL):
            out = torch.from_numpy(self._in_turn(counter, n, size))
        else:
            with torch.no_grad():
                out = self._at_once(counter, n, size, _BLOCKS_HERE if here else _BLOCKS)
        return out.view(n, *self.shape).to(self.dtype)

    def _in_turn(self, counter: tuple[int, int, int], n: int, size: int) -> np.ndarray:
        """Sample after sample, the words in pieces as long as is good for the cache."""
        out, serial = np.empty((n, size), dtype=np.float32), self._serial
        together = max(1, CHUNK // max(1, size))
        words = np.empty((min(n, together), min(size, CHUNK)), dtype=np.int64)
        for i in range(0, n, together):
            keys = self._keys(i, min(n, i + together))
            for row, key in zip(words, keys, strict=False):
                row[:] = serial.words(key, counter, len(row))
            out[i : i + len(keys), : words.shape[1]] = normal_here(words[: len(keys)])
            for j in range(CHUNK, size, CHUNK):  # of a sample that is longer than a piece
                out[i, j : j + CHUNK] = normal_here(serial.more(min(CHUNK, size - j)))
        return out

    def _keys(self, i: int, j: int) -> list[tuple[int, int]]:
        if isinstance(self.seed, int):
            return [(self.seed, sample) for sample in self.samples[i:j]]
        return [(seed, 0) for seed in self.seed[i:j]]

    def _at_once(self, counter: tuple[int, int, int], n: int, size: int, most: int) -> Tensor:
        """All samples together, so many blocks of four words at a time."""
        blocks = -(-size // 4)
        across = max(1, min(blocks, most))
        down = most // across
        out = torch.empty((n, size), dtype=torch.float32, device=self.device)
        for j in range(0, blocks, across):
            numbers = range(1 + j, 1 + min(j + across, blocks))
            for i in range(0, n, down):
                words = self._parallel.words(counter, numbers, slice(i, i + down))
                piece = out[i : i + down, 4 * j : 4 * (j + across)]
                piece.copy_(normal_of(words[:, : piece.shape[1]].contiguous()))
        return out


class Replayed(Stream):
    """A stream whose draws are kernels on tensors that stay, on every device: what was recorded of
    them draws for other samples after :meth:`turn_to`."""

    def turn_to(self, seed: Seed, samples: range) -> None:
        """Be the stream of other samples, as many."""
        self.seed, self.samples = seed, samples
        self._parallel.turn_to(self._pair())

    def _draw(self, counter: tuple[int, int, int]) -> Tensor:
        n, size = len(self.samples), math.prod(self.shape)
        with torch.no_grad():
            out = self._at_once(counter, n, size, _BLOCKS)
        return out.view(n, *self.shape).to(self.dtype)


def normal(
    seed: Seed,
    samples: range,
    draw: int,
    shape: Sequence[int],
    dtype: torch.dtype,
    device: torch.device | None,
) -> Tensor:
    """Standard normal noise, (len(samples), *shape): draw number ``draw`` of every sample (0 is its
    start)."""
    return Stream(seed, samples, shape, dtype, device).numbered(draw)


def check_seed(seed: Any) -> int:
    """``seed``, or a fresh one from the operating system for None. Torch's and NumPy's global state
    are not touched.

    Raises:
        TypeError, ValueError: unless it is an integer from 0 to 2⁶⁴ − 1.
    """
    return secrets.randbits(63) if seed is None else _seed("seed", seed)


def check_seeds(seed: Any) -> int | tuple[int, ...]:
    """As :func:`check_seed`, or a sequence of seeds, one for each sample."""
    if (
        isinstance(seed, (str, bytes))
        or not hasattr(seed, "__len__")
        or getattr(seed, "ndim", 1) == 0
    ):
        return check_seed(seed)
    if len(seed) == 0:
        raise ValueError("seed=[]: expected an integer, or one for each sample")
    return tuple(_seed(f"seed[{k}]", one) for k, one in enumerate(seed))


def _seed(name: str, seed: Any) -> int:
    try:
        return read(name, seed, OneSeed)
    except TypeError:
        more = ", one for each sample in a list, or None" if name == "seed" else ""
        raise TypeError(refused(name, seed, f"an integer{more}")) from None
