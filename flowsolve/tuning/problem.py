"""What a plan is fitted to: a model, starts, and where the ODE takes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..coordinates import FLOW
from ..denoiser import Denoiser
from ..finite import finite
from ..plans.tuned import Errors
from ..processes import SIGMA, Level
from .rows import Rows, scale


class Problem:
    """A model, asked in the chart of :mod:`flowsolve.tuning.rows`.

    Attributes:
        model: as in a run.
        begin, end: the levels of a run.
        batch_size: the most samples of one call of the network.
        spent: evaluations of one sample so far.
        asked: called after each call of the network, with the number of samples.
    """

    def __init__(
        self,
        model: Denoiser,
        begin: Level,
        end: Level,
        batch_size: int,
        asked: Callable[[int], object],
    ) -> None:
        self.model, self.process, self.begin, self.end = model, model.process, begin, end
        self.batch_size, self.asked, self.spent = batch_size, asked, 0

    @cached_property
    def quiet(self) -> Level:
        """The quietest level at which the network is asked."""
        return self.process.level(self.process.t_min) if self.end.clean else self.end

    def level(self, log_sigma: float) -> Level:
        """The level of that log σ̄; the quietest one where it would be below that."""
        if log_sigma <= -self.quiet.lam + 1e-12:
            return self.quiet
        return self.process.at(SIGMA, math.exp(log_sigma))

    @cached_property
    def on_entries(self) -> bool:
        """Whether the network is told whole numbers, so that levels stay on a table's entries."""
        table = self.process.entries is not None
        return table and isinstance(self.model.label(self.quiet), int)

    @cached_property
    def steps(self) -> tuple[float, float]:
        """How far weights and log σ̄ are moved to see what comes of it: what rounding and curvature
        allow."""
        if self.model.state_dtype == torch.float64:
            return 1e-6, 1e-5
        half = self.model.net_dtype in (torch.float16, torch.bfloat16)
        return (3e-2, 5e-2) if half else (5e-4, 2e-3)

    def U(self, y: Tensor, level: Level, samples: Tensor) -> Tensor:
        """ε̂ − x̂0 at states y, (k·m, *state), which are k times those of ``samples``, (m,)."""
        a, b = (c.value for c in self.model.linear(level).mix(FLOW.p_of))  # type: ignore[attr-defined]
        out, s = torch.empty_like(y), scale(level)
        for rows, which in self._parts(len(y), samples):
            x = y[rows] * s
            answer = self._answer(x, level, which).to(y.dtype)
            out[rows] = x.mul_(a).add_(answer, alpha=b)
            self.spent += len(x)
            self.asked(len(x))
        return out

    def _parts(self, count: int, samples: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """The calls of the network: which rows, and which samples they are of."""
        m = len(samples)
        size = self.batch_size if self.model.whole is None else m
        for i in range(0, count, size):
            j = min(i + size, count)
            yield slice(i, j), samples[torch.arange(i, j, device=samples.device) % m]

    def _answer(self, x: Tensor, level: Level, samples: Tensor) -> Tensor:
        if self.model.whole is None:
            return self.model.rows(samples).evaluate(x, level)
        # Each sample has its place in the batch, and the batch is always whole.
        filled = x[torch.arange(self.model.whole, device=x.device) % len(x)]
        filled[samples] = x
        return self.model.evaluate(filled, level)[samples]

    def run(self, rows: Rows, y: Tensor, samples: Tensor) -> Tensor:
        """Where the run of ``rows`` takes the states y of ``samples``; NaN where it blows up."""
        answers: list[Tensor] = []
        for level, weights in zip(rows.levels, rows.weights.tolist(), strict=True):
            answers.append(self.U(y, level, samples))
            y = step(y, weights, answers)
            if not finite(y):
                return y.fill_(torch.nan)
        return y

    def errors(self, rows: Rows, starts: Starts) -> Tensor:
        """The mean square over a sample's entries, (m,) in float64 on the CPU."""
        return square(self.run(rows, starts.y, starts.samples) - starts.truth, scale(self.end))


@dataclass(frozen=True, eq=False)
class Starts:
    """Some of the starts: which samples, their y, and the y where the ODE takes them."""

    samples: Tensor
    y: Tensor
    truth: Tensor

    def part(self, rows: slice) -> Starts:
        """Some of them."""
        return Starts(self.samples[rows], self.y[rows], self.truth[rows])

    def __len__(self) -> int:
        return len(self.samples)


def step(y: Tensor, weights: Sequence[float], answers: Sequence[Tensor]) -> Tensor:
    """y + Σ w U, where w is not nothing."""
    out = y.clone()
    for w, u in zip(weights, answers, strict=False):
        if w != 0.0:
            out.add_(u, alpha=w)
    return out


def square(difference: Tensor, factor: float = 1.0) -> Tensor:
    """Of each sample the mean square over its entries, in float64 on the CPU."""
    flat = difference.detach().flatten(1).to("cpu", torch.float64)
    return flat.square().mean(1).mul(factor**2).nan_to_num(torch.inf, posinf=torch.inf)


def summary(squares: Tensor) -> Errors:
    """What is said of errors."""
    mean = squares.mean().item()
    rmse, median, high = (
        math.sqrt(v) for v in (mean, *squares.quantile(torch.tensor([0.5, 0.9]).double()).tolist())
    )
    # Of a root of a mean: that of the mean, over twice the root.
    spread = squares.std().item() / math.sqrt(len(squares)) if len(squares) > 1 else math.nan
    return Errors(rmse, median, high, 0.5 * spread / rmse if rmse else 0.0)


def both(squares: Tensor) -> float:
    """√(RMSE · median): what is made small."""
    return summary(squares).both
