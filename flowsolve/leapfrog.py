r"""The asynchronous leapfrog: a method of order two that can be run backward exactly.

Beside the state it carries v, an estimate of p in FLOW coordinates, :math:`d\tilde x = p\,du`. A
step from s to t, h = u_t − u_s, m the level half way in u (arXiv 2102.04668, algorithm 2),

.. math::
   \tilde x_m = \tilde x + \tfrac h2 v,\qquad v' = 2p(\tilde x_m, m) - v,\qquad
   \tilde x' = \tilde x_m + \tfrac h2 v' ,

is undone by the same formulas with −h. On a lattice, every increment rounded to a multiple of
2⁻³², sums are exact in float64 and nothing at all is lost. FLOW coordinates, because an error of v
grows as the inverse of the flow's contraction does, which is mildest there. The levels are
:math:`u_i = 1 - \sin(\pi i/2N)`, in parts of the noisiest u: close together near the data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from .conditioning import leaves
from .coordinates import FLOW
from .denoiser import Denoiser
from .errors import Unsuited
from .operators import combine
from .processes import FLOW_TIME, Level, Process

#: Increments on the lattice are multiples of 1/FINE; sums of fewer than LARGEST are exact.
FINE, LARGEST = 2.0**32, 2.0**20


def times_of(process: Process, steps: int) -> tuple[float, ...]:
    """The times of the levels of so many steps, from the noisiest to clean data."""
    if not process.scalar:
        raise Unsuited(
            f"A and R of {process!r} are matrices, and the reversible leapfrog goes in σ̄/(1+σ̄), "
            "a number",
            "a process of numbers, such as flowsolve.VP()",
        )
    top = FLOW_TIME.of(process.start)
    inner = (top * (1.0 - math.sin(0.5 * math.pi * i / steps)) for i in range(1, steps))
    return (process.t_max, *(process.at(FLOW_TIME, u).t for u in inner), process.t_clean)


@dataclass(frozen=True, eq=False)
class Track:
    """The way of a model's states over levels, in either direction; lattice or plain."""

    model: Denoiser
    levels: tuple[Level, ...]
    lattice: bool

    @cached_property
    def quiet(self) -> Level:
        """The quietest level that the network is asked at."""
        return self.model.process.level(self.model.process.t_min)

    def p(self, x: Tensor, level: Level) -> Tensor:
        """p at x̃ on ``level``, or, below the quietest level, what the network says there."""
        level = level if level.t >= self.quiet.t else self.quiet
        state = FLOW.P(level) @ x
        a, b = self.model.linear(level).mix(FLOW.p_of)
        return combine((a, b), (state, self.model.evaluate(state, level)))

    def first(self, x: Tensor, level: Level) -> Tensor:
        """v at the beginning of a way."""
        return self.rounded(self.p(x, level))

    def rounded(self, x: Tensor) -> Tensor:
        """On the lattice, where there is one."""
        return (x.double() * FINE).round() / FINE if self.lattice else x

    def half(self, s: Level, t: Level) -> tuple[float, Level]:
        """h/2, and the level in the middle."""
        u, w = FLOW_TIME.of(s), FLOW_TIME.of(t)
        return 0.5 * (w - u), self.model.process.at(FLOW_TIME, 0.5 * (u + w))

    def step(self, x: Tensor, v: Tensor, s: Level, t: Level) -> tuple[Tensor, Tensor]:
        """(x̃, v) at t from those at s."""
        h, m = self.half(s, t)
        x = x + self.rounded(v * h)
        v = 2.0 * self.rounded(self.p(x, m)) - v
        return x + self.rounded(v * h), v

    def along(self, x: Tensor, v: Tensor, upward: bool) -> tuple[Tensor, Tensor]:
        """(x̃, v) at the other end."""
        levels = self.levels[::-1] if upward else self.levels
        for s, t in pairwise(levels):
            x, v = self.step(x, v, s, t)
        return x, v


def nets_of(model: Any) -> Iterable[Any]:
    """The networks that an evaluation of the model asks."""
    while model is not None:
        yield model.net
        other = getattr(model, "other", None)
        if other is not None:
            yield from nets_of(other)
        model = getattr(model, "inner", None)


def sources(model: Denoiser) -> list[Tensor]:
    """What gradients may be asked for besides the state: parameters and conditioning."""
    found: dict[int, Tensor] = {}
    for net in nets_of(model):
        for parameter in net.parameters() if isinstance(net, torch.nn.Module) else ():
            found[id(parameter)] = parameter
    for _, value in leaves(model.conditioning):
        if isinstance(value, Tensor):
            found[id(value)] = value
    return [each for each in found.values() if each.requires_grad]


def reversible(track: Track, x: Tensor) -> Tensor:
    """The data that ``x``, states on the noisiest level, lead to. Its graph is a single node: on
    the way back the states are computed again, backward, one at a time."""
    return _Reversible.apply(track, x, *sources(track.model))  # type: ignore[no-any-return]


class _Reversible(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, track: Track, x: Tensor, *given: Tensor) -> Tensor:
        begin = track.levels[0]
        x = FLOW.P(begin).inverse() @ x
        x, v = track.along(x, track.first(x, begin), upward=False)
        ctx.track, ctx.given = track, given
        ctx.save_for_backward(x, v)
        return FLOW.P(track.levels[-1]) @ x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        track, given = ctx.track, ctx.given
        x, v = ctx.saved_tensors
        sums: list[Tensor | None] = [None] * len(given)
        gx = FLOW.P(track.levels[-1]) @ gradients[0]
        gv = torch.zeros_like(gx)
        levels: Sequence[Level] = track.levels
        for s, t in reversed([*pairwise(levels)]):
            h, m = track.half(s, t)
            x = x - h * v
            gv = gv + h * gx
            k, back = _asked(track, x, m, 2.0 * gv, given, sums)
            v = 2.0 * k - v
            x = x - h * v
            gx = gx + back
            gv = h * gx - gv
        _, back = _asked(track, x, levels[0], gv, given, sums)
        gx = FLOW.P(levels[0]).inverse() @ (gx + back)
        return (None, gx, *sums)


def _asked(
    track: Track,
    x: Tensor,
    level: Level,
    gradient: Tensor,
    given: Sequence[Tensor],
    sums: list[Tensor | None],
) -> tuple[Tensor, Tensor]:
    """p at x̃, and what ``gradient`` of it is in terms of x̃; that of ``given`` is added to
    ``sums``."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        k = track.p(x, level)
        found = torch.autograd.grad(k, [x, *given], gradient, allow_unused=True)
    for i, each in enumerate(found[1:]):
        if each is not None:
            before = sums[i]
            sums[i] = each if before is None else before + each
    back = torch.zeros_like(x) if found[0] is None else found[0]
    return k.detach(), back
