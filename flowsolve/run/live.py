"""The loop of runs whose arithmetic depends on the data: steps on tensors, one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..conditioning import divisible
from ..coordinates import Coordinates
from ..denoiser import Denoiser
from ..finite import finite, non_finite
from ..operators import combine
from ..plans import ask
from ..processes import Level, Levels
from ..solvers import Evaluator
from .record import BudgetExceeded, Record, Statistics


class Live(Evaluator[Tensor]):
    """The evaluator on tensors.

    Args:
        model, record, noise: who is asked, who is told, and what gives the k-th draw.
        cap: the most evaluations, None for as many as it takes.
        x, level: where the run starts.
    """

    def __init__(
        self,
        model: Denoiser,
        record: Record,
        noise: Callable[[int], Tensor],
        cap: int | None,
        x: Tensor,
        level: Level,
    ) -> None:
        self.model, self.process, self.record = model, model.process, record
        self.draw, self.cap = noise, cap
        self.x, self.draws = x, 0
        self.level: Level | Sequence[Level] = level
        self.spent = Statistics(*torch.zeros(3, len(x), dtype=torch.int64, device="cpu"))
        self.statistics: Statistics | None = None
        self._gather()

    def _gather(self) -> None:
        """All samples are running, and all rows are evaluated."""
        self.running, self.rows = torch.ones(len(self.x), dtype=torch.bool, device="cpu"), None
        self.part = self.model

    def ask(self, x: Tensor, s: Level, coordinates: Coordinates) -> Tensor:
        if self.cap is not None and len(self.record.asked) >= self.cap:
            level = self.level if isinstance(self.level, Level) else Levels(self.level)
            raise BudgetExceeded(len(self.record.asked), self.x, level)
        linear = self.model.linear(s)
        if self.rows is None:
            out, _ = ask(self.model, x, s, linear, self.record)
        else:
            part = self.part.evaluate(
                x[self.rows], Levels(s.each[row] for row in self.rows.tolist())
            )
            out = torch.zeros_like(x).index_copy(0, self.rows.to(x.device), part.to(x.dtype))
            self.record.evaluated(x, out, s, linear)
        # A step size is about to be computed from it.
        if not finite(out) and not finite(out[self.running]):
            if not finite(x[self.running]):  # of which the network knows nothing
                raise non_finite(x, [], running=self.running)
            source = blame(self.model, x, s)
            raise non_finite(out, self.record.asked, source, self.running)
        self.spent.evaluations.add_(self.running)
        self.record.repeat_x0(self.running)
        return combine(linear.mix(coordinates.p_of), (x, out))

    def noise(self) -> Tensor:
        self.draws += 1
        return self.draw(self.draws - 1)

    def reached(self, x: Tensor, t: Level) -> bool:
        self.x, self.level = x, t
        self._gather()
        return self._stepped(t)

    def _stepped(self, level: Level) -> bool:
        if self.record.stepped(self.x, level):
            self.record.stand(self.x, level)
            self.stopped = True
        return self.stopped

    def judged(
        self,
        x: Tensor,
        levels: Sequence[Level],
        accepted: Tensor,
        rejected: Tensor,
        running: Tensor,
    ) -> bool:
        self.x, self.level, self.running, self.statistics = x, levels, running, self.spent
        self.spent.accepted.add_(accepted)
        self.spent.rejected.add_(rejected)
        # Only when half are done: the shapes that a network may be compiled or tuned for stay few.
        few = 0 < 2 * int(running.sum()) <= (len(x) if self.rows is None else len(self.rows))
        model = self.model
        if few and divisible(model.net, model.conditioning, model.per_sample, len(x)):
            self.rows = running.nonzero().flatten()
            self.part = self.model.rows(self.rows)
        # When all have arrived the loop over the steps will say so.
        return bool(accepted.any() and running.any()) and self._stepped(Levels(levels))

    def arrive(self, x: Tensor, t: Level) -> None:
        self.x, self.level = x, t
        self._gather()
        self.stopped = self.record.arrived(x, t)

    def parameters(self) -> Iterable[Any]:
        net = self.model.net
        return (
            [p for p in net.parameters() if p.requires_grad]
            if isinstance(net, torch.nn.Module)
            else ()
        )


def blame(model: Denoiser, x: Tensor, level: Level) -> str:
    """Who it was, when the evaluation of the finite state x on ``level`` is not finite."""
    if model.correct_x0 is None:
        return "the network"
    bare = replace(model, correct_x0=None)
    return "correct_x0" if finite(bare.evaluate(x, level)) else "the network"
