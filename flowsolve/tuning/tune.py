"""The best plan for a model, found by asking it."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from .. import checks
from .. import conditioning as conditions
from ..checked import Count, OneSeed, checked
from ..checks import Device
from ..denoiser import Denoiser
from ..grids import find_grid
from ..plans import Errors, Plan, Tuned
from ..readers import Later, Must
from ..run import Span, progress_bar
from ..sampling import solve, started
from ..solvers import find_solver
from ..solvers.auto import center_of
from ..starts import check_state
from ..typing import Float
from .fitting import fit
from .problem import Problem, Starts, both, summary
from .rows import Rows, scale
from .search import LONG, SHORT, Found, laid, search

#: Starts when the caller says nothing: of data of few dimensions each says little.
STARTS = {"full": 96, "search": 16}
FEW_DIMENSIONS, MANY_STARTS = 4, 512
#: Iterations after which one fit goes on.
AHEAD = 3
#: Evaluations of the reference, at least, and in those of the plan.
REFERENCE, TIMES = 48, 6

#: The fewest starts: there must be some of each kind.
LEAST = 8

Many = Annotated[int, Must(lambda v: LEAST <= v <= 2**20, "an integer from 8 to 2**20")]
Long = Annotated[int, Must(lambda v: 1 <= v <= 10_000, "an integer from 1 to 10000")]
Budget = Annotated[int, Must(lambda v: 1 <= v <= 100, "an integer from 1 to 100")]


@checked
def tune(
    model: Denoiser,
    nfe: Budget,
    *,
    effort: Literal["full", "search"] = "full",
    n: Many | None = None,
    start: Annotated[Float[Tensor, "n *state"] | None, Later("check_state")] = None,
    span: Span = (None, None),
    seed: OneSeed = 0,
    reference: Long | None = None,
    batch_size: Count | None = None,
    device: Device | None = None,
    progress: bool = False,
) -> Tuned:
    """Fit a plan of ``nfe`` evaluations to ``model``: levels and coefficients with which runs end
    where the probability-flow ODE does.

    Some rules on a family of grids are tried, and from the best two of them levels and coefficients
    are fitted by Gauss-Newton (:mod:`flowsolve.tuning.fitting`). The network is only ever asked:
    nothing is differentiated, and it may be a black box. What is returned is the best on starts
    that the fit did not see, ``auto`` among them::

        tuned = flowsolve.tune(model, nfe=6)
        print(tuned)                                    # its error, and auto's
        x = flowsolve.sample(model, solver=tuned, n=64)
        tuned.save("sampler.json")                      # solver="sampler.json"

    Args:
        model: a :class:`~flowsolve.Denoiser` on a process whose A and R are numbers. A plan that
            was fitted without a label, or without guidance, is better than auto with it too. Where
            the network is told whole numbers (``time=lambda level: round(level.t)`` on a
            table), levels stay on the table's entries.
        nfe: evaluations of a run.
        effort: "full", or "search" for networks that are dear: the fit is left out, which costs
            about as much as a few hundred samples.
        n: starts: half of them to fit, a quarter to choose, a quarter held back for the report. By
            default as many as the model has rows of conditioning, else 96, 16 for a search, and 512
            for data of at most four numbers.
        start: the states to start from, (n, *state), instead of noise drawn with ``seed``.
        span: as in :func:`flowsolve.solve`.
        seed: of the starts; the same seed gives the same plan on the same machine.
        reference: evaluations of the run that stands for the ODE, by ``auto``; by default 48, or
            six times ``nfe`` if that is more.
        batch_size: the most samples in one call of the network, by default half of ``n``.
        device: where to start if the network has no parameters to say so.
        progress: show a progress bar (tqdm) over evaluations.

    Returns:
        :class:`~flowsolve.Tuned`: the plan, with its error and auto's. Ctrl-C, once the reference
        is there, ends the search or the fit, and what is best so far is returned.

    Raises:
        TypeError, ValueError: for arguments that do not fit, and for a process whose A and R are
            matrices.
        NonFiniteError: the network returned NaN or Inf in the run of the reference.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> tuned = flowsolve.tune(model, nfe=4, effort="search", n=32)
        >>> tuned.nfe, tuned.error.both <= tuned.auto_error.both
        (4, True)
    """
    begin_time = time.perf_counter()
    process = model.process
    if not process.scalar:
        raise ValueError(
            f"model: A and R of {process!r} are matrices, and plans are fitted in x/(A + R), which "
            'needs numbers; expected a process such as flowsolve.VP(), or solver="auto" here'
        )
    model = model.in_run()
    auto = checks.check_layout(process, "auto", nfe, None, span, {}, about=model.about).plan
    assert auto is not None
    begin, end = auto.levels[0], auto.levels[-1]
    model, x = _starts(model, begin, n, start, seed, effort, device)
    count, y = len(x), x / scale(begin)
    samples = torch.arange(count, device=x.device)
    train, choose = count // 2, count // 4
    bar = progress_bar(progress, None)
    ask = (lambda _: None) if bar is None else bar.update
    problem = Problem(model, begin, end, batch_size or max(train, 1), ask)
    with torch.no_grad(), contextlib.nullcontext() if bar is None else bar:
        truth = _truth(problem, y, samples, reference or max(REFERENCE, TIMES * nfe))
        everything = Starts(samples, y, truth)
        fitted, chosen = slice(train), slice(train, train + choose)
        parts = map(everything.part, (fitted, chosen, slice(train + choose, None)))
        best = _Best(problem, auto, *parts)
        interrupted = None
        try:
            best.find(nfe, center_of(process, model.about), effort)
        except KeyboardInterrupt as interrupt:
            interrupted = interrupt
        plan, error, auto_error = best.judged()
    return Tuned(
        plan,
        error,
        auto_error,
        len(best.held),
        best.name,
        problem.spent,
        time.perf_counter() - begin_time,
        interrupted,
    )


class _Best:
    """The best so far, by the starts to choose by."""

    def __init__(
        self, problem: Problem, auto: Plan, train: Starts, choose: Starts, held: Starts
    ) -> None:
        self.problem, self.train, self.choose, self.held = problem, train, choose, held
        rows = Rows.of(auto)
        assert rows is not None
        self.auto, self.of_auto = auto, rows
        self.rows, self.name = rows, "auto"
        self.error = both(problem.errors(rows, choose))

    def find(self, nfe: int, center: float, effort: str) -> None:
        how = LONG if effort == "full" else SHORT
        found = search(self.problem, self.train, nfe, center, how, self.searched)
        if effort == "full":
            fits = [
                fit(self.problem, f.rows, self.train, self.choose, self.fitted(f"{f}, fitted"))
                for f in found
            ]
            # Of several the one that is ahead after some iterations goes on.
            reached = [min(itertools.islice(f, AHEAD), default=math.inf) for f in fits]
            for _ in fits[reached.index(min(reached))]:
                pass

    def searched(self, found: Found) -> None:
        error = both(self.problem.errors(found.rows, self.choose))
        self.fitted(str(found))(error, found.rows)

    def fitted(self, name: str) -> Callable[[float, Rows], None]:
        def better(error: float, rows: Rows) -> None:
            if error < self.error:
                self.error, self.rows, self.name = error, rows, name

        return better

    def judged(self) -> tuple[Plan, Errors, Errors]:
        """The plan, its error and auto's on the starts that are held back; auto where that is
        better there too."""
        error, of_auto = (
            summary(self.problem.errors(rows, self.held)) for rows in (self.rows, self.of_auto)
        )
        if error.both > of_auto.both:
            self.name, error = "auto", of_auto
        return self.auto if self.name == "auto" else self.rows.plan(), error, of_auto


def _starts(
    model: Denoiser,
    begin: Any,
    n: int | None,
    start: Tensor | None,
    seed: int,
    effort: str,
    device: Device | None,
) -> tuple[Denoiser, Tensor]:
    """The model for the starts, and they, on the level ``begin``."""
    if start is not None:
        x = check_state(model, "start", start, model.shape and model.state_shape)
        if len(x) < LEAST:
            raise ValueError(f"start has {len(x)} samples; expected {LEAST} at least")
        n = len(x)
    else:
        if n is None:
            few = math.prod(model.state_shape) <= FEW_DIMENSIONS and effort == "full"
            usual = MANY_STARTS if few else STARTS[effort]
            n = conditions.count(model.conditioning, model.per_sample) or usual
        x = started(model, begin, n, seed, 0, device)
    if model.per_sample is None:
        conditions.check_known(model.conditioning, 0, n, f"n={n}")
        model = model.given(per_sample=[])
    return checks.check_rows(model, 0, n), x


def _truth(problem: Problem, y: Tensor, samples: Tensor, nfe: int) -> Tensor:
    """Where the ODE takes the starts: where auto does, with many evaluations."""
    most = problem.process.entries if problem.on_entries else None
    nfe = nfe if most is None else min(nfe, most)
    solver, grid = find_solver("auto", None, nfe, problem.process, about=problem.model.about)
    plan = laid(problem, solver, find_grid(grid, problem.process), nfe)
    assert plan is not None
    size, ends = problem.batch_size if problem.model.whole is None else len(y), []
    for i in range(0, len(y), size):
        part = slice(i, i + size)
        model = problem.model if problem.model.whole else problem.model.rows(samples[part])
        run = solve(model, solver=plan, start=y[part] * scale(problem.begin))
        problem.spent += run.nfe * len(run.x)
        problem.asked(run.nfe * len(run.x))
        ends.append(run.x / scale(problem.end))
    return torch.cat(ends)
