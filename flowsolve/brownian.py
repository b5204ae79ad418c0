r"""Noise from one Brownian path, the same for runs of any number of steps.

A draw of a step from s to t is the increment of a path B over the step, of unit variance,

.. math:: z = \frac{B(c_t)-B(c_s)}{\sqrt{c_t-c_s}},\qquad c=\bar\sigma^{-2}.

In this clock the reverse SDE's own noise is such an increment: for a linear prediction its solution
adds :math:`\bar\sigma_t^2\,(B(c_t)-B(c_s))`, of variance :math:`\bar\sigma_t^2-\bar\sigma_q^2`
with the shadow's :math:`\bar\sigma_q=\bar\sigma_t^2/\bar\sigma_s` (see
:mod:`flowsolve.solvers.descent`). So runs of 20 and of 40 steps are two discretisations of one path
of the SDE, as with k-diffusion's BrownianTree, whose clock is σ̄.

The path of sample i depends on (seed, i) alone. Over each factor of four in c it is a Brownian
bridge by bisection (Lévy's construction), whose normals are numbered by their place; ends of steps
are taken to the nearest of 2¹⁶ nodes, so that increments have unit variance exactly and those of
disjoint steps are independent.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .noise import Stream

#: Nodes in a factor of four, as a power of two.
DEPTH = 16
#: Of a step over more factors of four than this, what lies further back has no weight in float32.
FAR = 14


class Brownian:
    """The path of one run's samples, in units of 2ᵏ where c is about 4ᵏ."""

    def __init__(self, stream: Stream) -> None:
        wide = torch.float64 if stream.device.type != "mps" else torch.float32
        self.stream = Stream(stream.seed, stream.samples, stream.shape, wide, stream.device)
        self.dtype = stream.dtype
        self._last: tuple[tuple[int, int], Tensor] | None = None  # a step ends where one begins

    def between(self, s: float, t: float) -> Tensor | None:
        """The increment from σ̄ = s down to t < s, of unit variance, (n, *shape); None where the two
        are one node."""
        end = _node(t)
        begin = (end[0] - FAR, 0) if math.isinf(s) else max(_node(s), (end[0] - FAR, 0))
        if begin >= end:
            return None
        (k, i), (m, j) = begin, end
        total = -self._within(k, i) * 2.0**k
        variance = -_part(i) * 4.0**k
        for octave in range(k, m):
            total = total + self._whole(octave) * 2.0**octave
            variance += 3.0 * 4.0**octave
        total = total + self._within(m, j) * 2.0**m
        return (total * (variance + _part(j) * 4.0**m) ** -0.5).to(self.dtype)

    def _whole(self, octave: int) -> Tensor:
        """The increment over c from 4ᵏ to 4ᵏ⁺¹, in units of 2ᵏ."""
        return self.stream.node(octave, 0) * math.sqrt(3.0)

    def _within(self, octave: int, i: int) -> Tensor:
        """The increment over the first i of the octave's nodes, in units of 2ᵏ."""
        if self._last is not None and self._last[0] == (octave, i):
            return self._last[1]
        rest = self._whole(octave)
        total, half, node, at = torch.zeros_like(rest), 0.5 * math.sqrt(3.0), 1, i
        for bit in reversed(range(DEPTH)):
            if not at:  # the rest of the node's bits are zero
                break
            # The middle of a bridge: half the increment, and a quarter of the variance.
            left = 0.5 * rest + half * self.stream.node(octave, node)
            right = at >> bit
            total, rest = (total + left, rest - left) if right else (total, left)
            node, at, half = 2 * node + right, at - (right << bit), half * math.sqrt(0.5)
        self._last = (octave, i), total
        return total


def _node(sigma: float) -> tuple[int, int]:
    """The octave and the node of σ̄."""
    exponent = -math.log(sigma) / math.log(2.0)  # of c, to the base of 4
    octave = math.floor(exponent)
    i = round((4.0 ** (exponent - octave) - 1.0) / 3.0 * 2**DEPTH)
    return (octave + 1, 0) if i == 2**DEPTH else (octave, i)


def _part(i: int) -> float:
    """The part of an octave's c before node i, in units of 4ᵏ."""
    return 3.0 * i / 2**DEPTH
