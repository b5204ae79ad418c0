r"""Noisy states of matrix processes, reduced to states of numbers: what lets one law of the data
serve every process.

**Position and velocity.** A state u = a x0 + Rε, where a is A's column for the positions, tells of
x0 by one number for each of its entries: with :math:`b = R^{-1}a`, :math:`s = 1/|b|`,
:math:`\hat b = sb` and n the unit vector normal to it,

.. math::
   w = s\,\hat b^TR^{-1}u = x_0 + s\,\hat b^T\varepsilon,\qquad
   o = n^TR^{-1}u = \frac{s}{\det R}(a_1v - a_2x) = n^T\varepsilon ,

and o is independent of x0. So :math:`\hat x_0 = E[x_0\mid w]`, and
:math:`\hat\varepsilon = \hat b\,\hat\varepsilon_w + n\,o`, in which nothing cancels.

**Frequencies.** In the basis of the cosine transform A is diagonal, and a mixture of point masses
or of isotropic Gaussians stays one of independent entries.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..operators import Block, Diagonal, back, transform
from ..processes import Level, Levels, Process, numbers


class Reduced(NamedTuple):
    """A state of numbers, x = a x0 + r ε.

    Attributes:
        x: (batch, D).
        a, r: numbers, or tensors that broadcast against (batch, K, D).
        restore: the estimates (x̂0, ε̂) at x, (batch, D) each, as those of the original state.
        log: what is to be added to log p(x) for that of the original state: a number, or (batch,).
    """

    x: Tensor
    a: Any
    r: Any
    restore: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    log: Any = 0.0


def reduced(x: Tensor, level: Level) -> Reduced:
    """The state ``x`` (batch, *state) on ``level``."""
    if isinstance(level.R, Block):
        return _of_pair(x, level.A, level.R)
    if isinstance(level.R, Diagonal):
        both: Any = (level.A, level.R)
        a, r = (torch.from_numpy(o.value).to(x).expand(x.shape[1:]).flatten() for o in both)
        return Reduced(
            transform(x).flatten(1),
            a,
            r,
            lambda x0, eps: (back(x0.view(x.shape)), back(eps.view(x.shape))),
        )
    a, r = numbers(level)
    if isinstance(level, Levels):
        a, r = (torch.from_numpy(number).to(x).view(-1, 1, 1) for number in (a, r))
    return Reduced(x.flatten(1), a, r, lambda x0, eps: (x0.view(x.shape), eps.view(x.shape)))


def spectral(process: Process) -> bool:
    """Whether the states are reduced to numbers in the basis of the cosine transform."""
    return isinstance(process.start.R, Diagonal)


def modes(process: Process, x0: Tensor) -> Tensor:
    """Data (n, *shape) as the x0 of reduced states, (n, D)."""
    return (transform(x0) if spectral(process) else x0).flatten(1)


def unmodes(process: Process, x0: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The inverse of :func:`modes`."""
    x0 = x0.view(-1, *shape)
    return back(x0) if spectral(process) else x0


def _of_pair(x: Tensor, A: Any, R: Block) -> Reduced:
    half = x.shape[1] // 2
    position, velocity = x[:, :half], x[:, half:]
    inverse = R.inverse()
    b = (inverse.a * A.a + inverse.b * A.c, inverse.c * A.a + inverse.d * A.c)
    s = 1.0 / math.hypot(*b)
    along = (s * b[0], s * b[1])
    row = (along[0] * inverse.a + along[1] * inverse.c, along[0] * inverse.b + along[1] * inverse.d)
    w = s * (row[0] * position + row[1] * velocity)
    o = (s / R.det) * (A.a * velocity - A.c * position)

    def restore(x0: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        x0, eps = x0.view(w.shape), eps.view(w.shape)
        pair = torch.cat([along[0] * eps - along[1] * o, along[1] * eps + along[0] * o], 1)
        return torch.cat([x0, torch.zeros_like(x0)], 1), pair

    size = w[0].numel()
    log = -0.5 * o.flatten(1).square().sum(1) + size * (
        math.log(s / abs(R.det)) - 0.5 * math.log(2.0 * math.pi)
    )
    return Reduced(w.flatten(1), 1.0, s, restore, log)
