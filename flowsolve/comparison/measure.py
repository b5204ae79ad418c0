"""Solvers side by side: the same starts, several budgets, and where the probability-flow ODE takes
those starts.

The measure is the distance to the ODE's own end, in the units of the data: a sample's error is the
root mean square over its entries. Over samples there are two summaries: the root mean square, which
a few samples that end in another mode can decide, and the median, which they cannot.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from .. import conditioning as conditions
from ..checked import checked
from ..checks import AnyGrid
from ..denoiser import Denoiser
from ..finite import check_finite
from ..noise import check_seed
from ..plans import Plan, Tuned
from ..readers import Later
from ..run import BudgetExceeded, NonFiniteError, Span, progress_bar
from ..sampling import solve
from ..solvers import Solver
from ..starts import Samples, check_state
from ..typing import Float
from . import figures
from .result import Measured
from .rows import Case, Choice, cases

#: The solvers when the caller names none.
DEFAULT_SOLVERS = ("auto", "ddim", "heun", "dpmpp2m")
DEFAULT_BUDGETS = (5, 8, 10, 20)
DEFAULT_N = 16

#: What the reference is made with. Measured against DOP853 at 1e-9 on the shipped network, and at
#: 1e-10 on mixtures under six processes: 200 evaluations end within 2e-6 (RMSE), where the best
#: solvers at 20 are 7e-3 away, and each further doubling takes it ten times closer, down to the
#: rounding of the network. Unlike DOP853 it costs the same whatever the network, needs no float64
#: state, and a sample's result does not depend on its batch.
REFERENCE = ("etd4", "logsnr")
#: The same where A and R are matrices; 200 evaluations end within 1e-5 of DOP853 at 1e-12 on
#: mixtures (tests/test_compare.py).
REFERENCE_IN_TIME = ("unipc3", "quadratic")
REFERENCE_NFE = 200


class Comparison(Measured):
    """What :func:`compare` returns: a :class:`~flowsolve.comparison.Measured`, whose attributes it
    has, that draws itself.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> found = flowsolve.compare(model, solvers="ddim", nfe=(5, 10), n=4)
        >>> found.rmse.shape, found.finished
        (torch.Size([1, 2]), 2)
    """

    @checked
    def picture(self, path: os.PathLike[str] | str) -> None:
        """Write a picture: a row for each solver, a column for each budget, the first few samples,
        the reference at the right.

        Raises:
            ImportError: without Pillow.
            ValueError: if the samples are not pictures, (1 or 3, height, width), or ``path`` cannot
                be written.
        """
        figures.save_picture(Path(path), self)

    @checked
    def plot(self, path: os.PathLike[str] | str) -> None:
        """Write a work-precision plot: errors over evaluations spent, both logarithmic.

        Raises:
            ImportError: without matplotlib.
            ValueError: if ``path`` cannot be written.
        """
        figures.save_plot(Path(path), self)


@checked
def compare(
    model: Denoiser,
    *,
    solvers: Annotated[
        Iterable[Choice] | Mapping[str, Choice] | Solver | Plan | Tuned, Later("cases")
    ] = DEFAULT_SOLVERS,
    nfe: Annotated[Iterable[int] | int, Later("cases")] = DEFAULT_BUDGETS,
    n: Samples | None = None,
    seed: Annotated[int | None, Later("noise.check_seed")] = 0,
    grid: AnyGrid = None,
    span: Span = (None, None),
    start: Annotated[Float[Tensor, "n *state"] | None, Later("checks.check_state")] = None,
    reference: Annotated[Float[Tensor, "n *shape"] | None, Later("checks.check_state")] = None,
    callback: Callable[[Comparison], Any] | None = None,
    progress: bool = False,
) -> Comparison:
    """Run several solvers from the same starts, and measure how far from the end of the
    probability-flow ODE they end.

    Each run is ``flowsolve.solve(model, solver=..., nfe=..., grid=..., n=n, seed=seed)``, so
    stochastic solvers share their noise as well. The reference is etd4 on the logsnr grid (unipc3
    on the quadratic one where A and R are matrices) with 200 evaluations, or four times the largest
    budget if that is more. Like every run it ends with the x̂0 of its quietest level, the process's
    ``t_min``; a grid whose last level is elsewhere keeps a distance to it (6e-4 on the shipped
    model with the default grid) however many evaluations it spends.

    Args:
        model: a :class:`~flowsolve.Denoiser`.
        solvers: names, solver objects or plans, or one of them; a pair (solver, grid) has a grid
            of its own, and so has a plan. A mapping gives the labels too.
        nfe: budgets, or one, each at most so many evaluations. An adaptive solver that would need
            more, or a plan that has more, has no result there.
        n: number of samples, if ``start`` is not given; by default as many as the model has rows
            of conditioning, else 16.
        seed: of the starts and of the noise; None draws one.
        grid: for all solvers that are not given in a pair; by default the name's or the process's
            own, see :func:`flowsolve.solve`.
        span: as in :func:`flowsolve.solve`.
        start: the states to start from, (n, *shape), instead of noise drawn with ``seed``.
        reference: the ends to compare with, (n, *shape), instead of the one described above.
        callback: called after each run with the :class:`Comparison` so far; returning what is true
            ends there. Budgets come in the order given, and all solvers at one before the next.
        progress: show a progress bar (tqdm) over runs.

    Returns:
        Errors of S solvers at K budgets, (S, K, n), in the units of the data.

    Raises:
        TypeError, ValueError: before the first evaluation, for arguments that do not fit.
        NonFiniteError: the network returned NaN or Inf in the run of the reference.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> found = flowsolve.compare(model, solvers=("ddim", "unipc3"), nfe=(5, 10), n=4)
        >>> bool((found.rmse[0] > found.rmse[1]).all())
        True
    """
    rows, budgets = cases(model, solvers, nfe, grid, span)
    seed = check_seed(seed)
    if start is not None:
        start = check_state(model, "start", start, model.shape and model.state_shape)
        n = len(start)
    elif n is None:
        n = conditions.count(model.conditioning, model.per_sample) or DEFAULT_N
    if reference is not None:
        reference = check_state(model, "reference", reference, model.shape, data=True)
        if len(reference) != n:
            raise ValueError(
                f"reference has {len(reference)} samples; expected {n}, one for each start"
            )
        check_finite("reference", reference)
    common: dict[str, Any] = {"n": n, "seed": seed, "span": span, "start": start}
    bar = progress_bar(progress, len(rows) * len(budgets) + (reference is None), unit="run")
    advance = (lambda: None) if bar is None else bar.update
    with bar or contextlib.nullcontext():
        method = "the caller's"
        if reference is None:
            solver, on = REFERENCE if model.process.scalar else REFERENCE_IN_TIME
            solution = solve(
                model, solver=solver, grid=on, nfe=max(REFERENCE_NFE, 4 * max(budgets)), **common
            )
            reference, method = solution.x, f"{solver} on {on}, {solution.nfe} evaluations"
            advance()
        size, labels = (len(rows), len(budgets)), tuple(row.label for row in rows)
        errors = torch.full((*size, n), torch.nan, dtype=torch.float64, device="cpu")
        spent = torch.zeros(size, dtype=torch.int64, device="cpu")
        seconds = torch.zeros(size, dtype=torch.float64, device="cpu")
        samples: dict[tuple[str, int], Tensor] = {}
        stochastic = frozenset(row.label for row in rows if row.stochastic)

        def so_far() -> Comparison:
            copies = errors.clone(), spent.clone(), seconds.clone(), dict(samples)
            return Comparison(labels, budgets, *copies, reference, method, stochastic, seed)

        for (k, budget), (i, row) in itertools.product(enumerate(budgets), enumerate(rows)):
            begin = time.perf_counter()
            x, spent[i, k] = _run(model, row, nfe=budget, **common)
            if x is not None:
                samples[row.label, budget] = x
                errors[i, k] = _distance(x, reference)
            seconds[i, k] = time.perf_counter() - begin
            advance()
            if callback is not None and callback(so_far()):
                break
    return so_far()


def _run(model: Denoiser, row: Case, nfe: int, **arguments: Any) -> tuple[Tensor | None, int]:
    """Where a run ends and what it spent; None if its budget did not take it to the end."""
    plan = row.solver if isinstance(row.solver, Plan) else None
    if plan is not None and plan.nfe > nfe:
        return None, plan.nfe
    try:
        budget = nfe if plan is None else None  # a plan has its own
        solution = solve(model, solver=row.solver, grid=row.grid, nfe=budget, **arguments)
        return solution.x, solution.nfe
    except BudgetExceeded as error:
        return None, error.nfe
    except NonFiniteError as error:  # a solver that diverges is a result, too
        return error.x, nfe if plan is None else plan.nfe


def _distance(x: Tensor, reference: Tensor) -> Tensor:
    """Per sample, the root mean square over entries, (n,) in float64 on the CPU; inf for what is
    not finite."""
    difference = (x.detach().cpu().double() - reference.detach().cpu().double()).flatten(1)
    return difference.square().mean(1).sqrt().nan_to_num(nan=torch.inf, posinf=torch.inf)
