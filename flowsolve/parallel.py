r"""A fixed-step run in parallel in time: all its evaluations at once, again and again.

In FLOW coordinates every state that a plan asks at is a sum of what is given and of the answers
before it,

.. math:: \tilde x_j = b_j + \sum_{i<j} c_{ji}\,p(\tilde x_i) ,

a fixed point. Picard's iteration (ParaDiGMS, arXiv 2305.16317) evaluates all of them, and sums
again; triangular Anderson acceleration (arXiv 2402.09970) extrapolates state j from the last rounds
of the states up to j. A round makes at least one more state final, so there are never more rounds
than evaluations; many fewer, if the tolerance allows.

What a sample does depends on that sample alone: it has its own window of open states, its own
extrapolation, and is done when it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from . import conditioning as conditions
from .checked import Count, Positive, checked
from .coordinates import FLOW
from .denoiser import Denoiser
from .errors import Unsuited
from .finite import check_finite, finite, non_finite
from .plans import Plan
from .plans.equality import canonical
from .processes import Level, Levels, numbers
from .readers import Must
from .run import Solution

#: How many past rounds.
Memory = Annotated[int, Must(lambda m: 0 <= m <= 10, "an integer from 0 to 10")]
#: Of the mean of the squares that are fitted: what keeps equal rounds apart.
RIDGE = 1e-6


@checked
@dataclass(frozen=True)
class Parallel:
    """How to run in parallel in time, ``solve(..., parallel=Parallel(tol=1e-4))`` (ParaDiGMS, arXiv
    2305.16317; triangular Anderson acceleration, 2402.09970).

    Args:
        tol: a state is final if a round changes it, in FLOW coordinates, x/(A + R), by no more than
            this, as the root mean square of a sample. The end is off by a few times that, in the
            worst entries of a sample by about ten, and by up to thirty without ``memory``.
        window: how many states of a sample are open at a time; None for all.
        memory: how many past rounds are extrapolated from; 0 is Picard's iteration.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> how = {"solver": "ddim", "nfe": 50, "n": 4, "seed": 0}
        >>> solution = flowsolve.solve(model, parallel=flowsolve.Parallel(tol=1e-4), **how)
        >>> off = (solution.x - flowsolve.sample(model, **how)).abs().max()
        >>> solution.rounds < 50, bool(off < 1e-2)
        (True, True)
    """

    tol: Positive = 1e-3
    window: Count | None = None
    memory: Memory = 3


def check_parallel(model: Denoiser, plan: Plan | None, n: int, given: Mapping[str, Any]) -> Plan:
    """The plan of a run in parallel. Raises ValueError for a run that cannot be."""
    for name, value in given.items():
        if value:
            raise ValueError(f"{name}={value!r} cannot be given with parallel")
    if plan is None:
        raise ValueError(
            "parallel: this solver's steps depend on the data, or are another library's; expected "
            "a solver with a plan, such as 'auto' or 'ddim'"
        )
    if not model.process.scalar:
        raise Unsuited(
            f"parallel: A and R of {model.process!r} are matrices, and samples are on levels of "
            "their own, which is for numbers",
            "a run without it",
        )
    if model.variance is not None and plan.draws:
        raise ValueError(
            f"parallel: variance={model.variance!r} makes the noise depend on the answers; "
            "expected a solver without noise"
        )
    if model.per_sample is None:
        conditions.check_known(model.conditioning, 0, n, "parallel")
    return plan


@torch.no_grad()
def in_parallel(
    model: Denoiser,
    plan: Plan,
    how: Parallel,
    x: Tensor,
    draw: Callable[[int], Tensor],
    seed: int | tuple[int, ...] | None,
) -> Solution:
    """The end of the plan from ``x``."""
    check_finite("start", x)
    run = _Rounds(model, plan, how, x, draw)
    while run.open:
        run.round()
    end = plan.levels[-1]
    x = run.end()
    return Solution(
        x=model.process.data(x) if end.clean else x,
        nfe=int(run.evaluations.max()),
        grid=plan.levels,
        seed=seed,
        rounds=run.rounds,
    )


def _host(values: Any) -> Tensor:
    """Numbers, whatever torch's default dtype and device are."""
    return torch.tensor(values, dtype=torch.float64, device="cpu")


class _Rounds:
    """J evaluations of n samples of D numbers; states and answers are (J, n, D)."""

    def __init__(
        self,
        model: Denoiser,
        plan: Plan,
        how: Parallel,
        x: Tensor,
        draw: Callable[[int], Tensor],
    ) -> None:
        self.model, self.how, self.shape = model, how, x.shape[1:]
        rows = list(canonical(plan.program))
        self.levels: list[Level] = [level for level, _ in rows[:-1]]
        count, n = len(self.levels), len(x)
        p = [sum(map(float, numbers(level))) for level, _ in rows]
        table = (_host([[float(c) for c in row] for _, row in rows]) / _host(p)[:, None]).to(x)
        # Sums one after another, each a product and a sum: the same for any batch.
        given = [x, *(draw(k).to(x) for k in range(plan.draws))]
        columns = [table[:, 0], *table[:, 1 + count :].unbind(1)]
        base = torch.zeros(count + 1, n, x[0].numel(), dtype=x.dtype, device=x.device)
        for column, value in zip(columns, given, strict=True):
            base = base + column[:, None, None] * value.flatten(1)
        self.base, self.weights = base, table[:, 1 : 1 + count]
        self.scales = [_host(c).to(x) for c in (p[:-1], p[-1])]
        mixed = [model.linear(level).mix(FLOW.p_of) for level in self.levels]
        self.of_x, self.of_out = (
            _host([float(pair[k].entries) for pair in mixed]).to(x) for k in (0, 1)
        )
        self.numbers = torch.arange(count, device="cpu")[:, None]
        self.fixed, self.evaluations = torch.zeros(2, n, dtype=torch.int64, device="cpu").unbind()
        self.rounds = 0
        self.past: list[tuple[Tensor, Tensor, Tensor]] = []
        self.before: tuple[Tensor, Tensor, Tensor] | None = None
        self.states = base[:-1].clone()
        self.answers = torch.zeros_like(self.states)
        self._ask(self.numbers.expand(-1, n) == 0)
        self.answers = self.answers[:1].expand(count, -1, -1).clone()  # the first for all: DDIM
        self.fixed += 1
        self.states = self._sums()[:-1]

    @property
    def open(self) -> bool:
        """Whether a state is not final."""
        return bool((self.fixed < len(self.levels)).any())

    def _sums(self) -> Tensor:
        sums = self.base
        for i in range(len(self.levels)):
            sums = sums + self.weights[:, i, None, None] * self.answers[i]
        return sums

    def _ask(self, active: Tensor) -> None:
        """Ask where ``active``, (J, n), is true."""
        self.rounds += 1
        self.evaluations += active.sum(0)
        rows, samples = active.nonzero(as_tuple=True)
        places = rows.to(self.states.device), samples.to(self.states.device)
        scale = self.scales[0][places[0]].view(-1, *[1] * len(self.shape))
        x = scale * self.states[places].view(-1, *self.shape)
        levels = Levels([self.levels[row] for row in rows.tolist()])
        out = self.model.rows(samples).evaluate(x, levels)
        if not finite(out):
            raise non_finite(x * (out * 0.0), [self.levels[int(rows.min())]])
        a, b = (part[places[0], None] for part in (self.of_x, self.of_out))
        self.answers[places] = a * x.flatten(1) + b * out.to(x.dtype).flatten(1)

    def round(self) -> None:
        """One evaluation of every open state in its sample's window."""
        window = self.how.window or len(self.levels)
        active = (self.numbers >= self.fixed) & (self.numbers < self.fixed + window)
        self._ask(active)
        sums = self._sums()[:-1]
        change = sums - self.states
        small = (change.double().square().mean(2).sqrt() <= self.how.tol).cpu()
        done = (active & small) | (self.numbers < self.fixed)
        self.fixed = done.long().cumprod(0).sum(0)
        there = (active & (self.numbers >= self.fixed)).to(change.device)[:, :, None]
        if self.how.memory and self.before is not None:
            states, changes, were = self.before
            both = there & were
            self.past.append((self.states - states, change - changes, both))
            self.past = self.past[-self.how.memory :]
        self.before = self.states, change, there
        first = (self.numbers == self.fixed).to(change.device)[:, :, None]
        better = self._extrapolated(sums, change, there)
        self.states = torch.where(there & ~first & better.isfinite(), better, sums)

    def _extrapolated(self, sums: Tensor, change: Tensor, there: Tensor) -> Tensor:
        """Σ of each state less what the last rounds say it is still off."""
        if not self.past:
            return sums
        moved = [torch.where(both & there, dx + dr, 0.0) for dx, dr, both in self.past]
        turned = [torch.where(both & there, dr, 0.0).double() for _, dr, both in self.past]
        now, m = torch.where(there, change, 0.0).double(), len(moved)

        def products(other: Tensor) -> Tensor:
            """(J, n, m): with each of the past rounds, over all the states up to one."""
            return torch.stack([(each * other).sum(2).cumsum(0) for each in turned], 2)

        gram = torch.stack([products(each) for each in turned], 3)
        trace = gram.diagonal(dim1=2, dim2=3).sum(2)
        ridge = (RIDGE / m) * trace + (trace == 0.0).double()
        gram = gram + ridge[:, :, None, None] * torch.eye(m, dtype=gram.dtype, device=gram.device)
        weights = torch.linalg.solve(gram, products(now)[..., None])[..., 0].to(sums.dtype)
        for k, each in enumerate(moved):
            sums = sums - weights[:, :, k, None] * each
        return sums

    def end(self) -> Tensor:
        """The plan's last state."""
        return (self.scales[1] * self._sums()[-1]).view(-1, *self.shape)
