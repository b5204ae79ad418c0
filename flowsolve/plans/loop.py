"""The loop over a plan: no host arithmetic, no device syncs, as few kernels as the sums need."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ..denoiser import Denoiser
from ..errors import warn
from ..operators import Basis
from ..parametrizations import Linear, Parametrization
from ..processes import Level, Process
from .bind import Ask, Bound, Item, Sum, bind
from .program import Arrive, Draw, Program


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


class Run:
    """A plan on its way, from one question to the network to the next: all of a run's state, and
    all of its arithmetic. :func:`play` asks a denoiser, :class:`~flowsolve.plans.Push` whoever
    holds it.

    Attributes:
        bound: what is computed.
        at: the number of the item that comes next.
        values: what is known of the numbered values, in the bound program's basis.
        x: the state on the last level that was reached.
        stopped: whether ``watch`` ended the run.
        learned: the last answer's v, of a network that learned its variance.
    """

    def __init__(
        self, bound: Bound, x: Tensor, noise: Callable[[int], Tensor], watch: Watch
    ) -> None:
        self.bound, self.noise, self.watch = bound, noise, watch
        self.at, self.stopped = 0, False
        self.learned: Tensor | None = None
        self.x = x if bound.basis is None else bound.basis.into(x)
        self.values: list[Any] = [None] * bound.size
        self.values[0] = self.x

    @property
    def known(self) -> dict[int, Tensor]:
        """Copies of the values that are still to be read."""
        return {v: value.clone() for v, value in enumerate(self.values) if value is not None}

    def questions(self) -> Iterator[Ask]:
        """Compute up to each evaluation, and give what is to be asked there: who has the answer
        puts it into :attr:`values`, in the state's dtype and the bound program's basis, before
        asking for the next."""
        values, basis, n = self.values, self.bound.basis, self.at
        for item, free in self.bound.items[n:]:
            n += 1
            if isinstance(item, Sum):
                out, terms, operators, reuse = item
                values[out] = operators[0].sum_of(operators, [values[v] for v in terms], reuse)
            elif isinstance(item, Ask):
                yield item
            elif isinstance(item, Draw):
                drawn = self._widened(self.noise(item.number), item.number)
                values[item.out] = drawn if basis is None else basis.into(drawn)
            else:
                self.at, self.x = n, values[item.x]
                x = basis.back(self.x) if basis is not None and self.watch.looks else self.x
                self.stopped = bool(self.watch.arrived(x, item.level))
            for v in free:
                values[v] = None
            if self.stopped:
                break

    def _widened(self, drawn: Tensor, number: int) -> Tensor:
        """A draw in the size that a network learned, (R_s/R_t)^f times that of the posterior, f =
        (v + 1)/2: of variance β^f β̃^(1−f), since β/β̃ = (R_s/R_t)² (arXiv 2102.09672, eq. 15)."""
        if self.learned is None or (ratios := self.bound.program.ancestral) is None:
            return drawn
        return drawn * torch.exp((0.5 * math.log(ratios[number])) * (self.learned + 1.0))

    def through(self, model: Denoiser, times: Sequence[Tensor] | None = None) -> Tensor:
        """The state at the end, with every answer from ``model``; ``times`` are what that is told
        of the levels, if they are there."""
        times = model.times(self.bound.asked, self.x) if times is None else times
        values = self.values
        basis, watch = self.bound.basis, self.watch
        if model.variance is not None and self.bound.program.ancestral is None:
            warn(
                "variance='learned_range' is ignored: this solver's noise is not that of ancestral "
                "steps, as ddpm's and ddim's with eta are"
            )
        for at, out, number, level, linear in self.questions():
            values[out], self.learned = ask(
                model, values[at], level, linear, watch, times[number], basis
            )
        return self.x if basis is None else basis.back(self.x)


@dataclass(frozen=True, eq=False)
class Remains:
    """What is left of a run that was stopped after a step. It can be pickled.

    Attributes:
        program, answers, process: what was bound.
        at: the number of the bound item that comes next.
        values: what is known and still to be read, in copies of its own.
    """

    program: Program
    answers: Parametrization
    process: Process
    at: int
    values: dict[int, Tensor]

    @property
    def _items(self) -> Sequence[tuple[Item, tuple[int, ...]]]:
        """The arrival that ended the run, and what is left."""
        return bind(self.program, self.answers, self.process).items[self.at - 1 :]

    @property
    def like(self) -> Tensor:
        """A tensor in the shape, dtype and place of the states."""
        return next(iter(self.values.values()))

    @property
    def levels(self) -> tuple[Level, ...]:
        """The grid that is left, from where the run stopped."""
        return tuple(item.level for item, _ in self._items if isinstance(item, Arrive))

    @property
    def evaluations(self) -> int:
        """How many are left."""
        return sum(isinstance(item, Ask) for item, _ in self._items)

    def run(self, x: Tensor, noise: Callable[[int], Tensor], watch: Watch) -> Run:
        """The run from here on, from ``x``: to the bit what it would have been, if that is the
        state it had."""
        run = Run(bind(self.program, self.answers, self.process), x, noise, watch)
        run.at, run.values[0], basis = self.at, None, run.bound.basis
        for v, value in self.values.items():
            run.values[v] = value.clone()
        here: Any = self._items[0][0]
        if basis is None or not torch.equal(basis.back(run.values[here.x]), x):
            run.values[here.x] = run.x
        return run


def ask(
    model: Denoiser,
    x: Tensor,
    level: Level,
    linear: Linear,
    watch: Watch,
    times: Tensor | None = None,
    basis: Basis | None = None,
) -> tuple[Tensor, Tensor | None]:
    """One evaluation: the network's output in the state's dtype, both in ``basis``, and the v of a
    learned variance."""
    out, learned = model.evaluate_both(shown(model, x, basis), level, times)
    watch.evaluated(basis.back(x) if basis and watch.looks else x, out, level, linear)
    return out if basis is None else basis.into(out).to(x.dtype), learned


def shown(model: Denoiser, x: Tensor, basis: Basis | None) -> Tensor:
    """What a denoiser is asked at, for the state ``x`` in ``basis``."""
    if basis is None:
        return x
    # What a network takes and gives in float32 changes its basis in float32, as its own products
    # are, which costs less.
    single = model.correct_x0 is None and model.net_dtype not in (None, torch.float64)
    return basis.back(x.float() if single else x)
