"""The loop over a plan: no host arithmetic, no device syncs, as few kernels as the sums need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from ..denoiser import Denoiser
from ..operators import Basis
from ..parametrizations import Linear
from ..processes import Level
from .bind import Ask, Sum, bind
from .plan import Plan
from .program import Draw


class Watch(Protocol):
    """Who is told of what happens in a run; may stop it by returning True from ``arrived``. States
    are given to who looks at them."""

    @property
    def looks(self) -> bool:
        """Whether it looks at the states it is given."""
        ...

    def evaluated(self, x: Tensor, out: Tensor, level: Level, linear: Linear) -> None:
        """The network answered ``out`` at x on ``level``; ``linear`` is what that means."""
        ...

    def arrived(self, x: Tensor, level: Level) -> bool:
        """A step ended with x on ``level``; True ends the run."""
        ...


def play(
    plan: Plan, model: Denoiser, x: Tensor, noise: Callable[[int], Tensor], watch: Watch
) -> Tensor:
    """The state at the end of a run from ``x``; ``noise(k)`` gives the k-th draw. ``x`` is not
    modified."""
    bound = bind(plan.program, model.answers, model.process)
    basis = bound.basis
    values: list[Any] = [None] * bound.size
    values[0] = x if basis is None else basis.into(x)
    times = model.times(bound.asked, x)
    for item, free in bound.items:
        if isinstance(item, Sum):
            out, terms, operators, reuse = item
            values[out] = operators[0].sum_of(operators, [values[v] for v in terms], reuse)
        elif isinstance(item, Ask):
            at, out, number, level, linear = item
            values[out] = ask(model, values[at], level, linear, watch, times[number], basis)
        elif isinstance(item, Draw):
            drawn = noise(item.number)
            values[item.out] = drawn if basis is None else basis.into(drawn)
        else:
            x = values[item.x]
            seen = basis.back(x) if basis is not None and watch.looks else x
            if watch.arrived(seen, item.level):
                break
        for v in free:
            values[v] = None
    return x if basis is None else basis.back(x)


def ask(
    model: Denoiser,
    x: Tensor,
    level: Level,
    linear: Linear,
    watch: Watch,
    times: Tensor | None = None,
    basis: Basis | None = None,
) -> Tensor:
    """One evaluation: the network's output in the state's dtype, both in ``basis``."""
    if basis is None:
        out = model.evaluate(x, level, times)
        watch.evaluated(x, out, level, linear)
        return out
    # What a network takes and gives in float32 changes its basis in float32, as its own products
    # are, which costs less.
    single = model.correct_x0 is None and model.net_dtype not in (None, torch.float64)
    out = model.evaluate(basis.back(x.float() if single else x), level, times)
    watch.evaluated(basis.back(x) if watch.looks else x, out, level, linear)
    return basis.into(out).to(x.dtype)
