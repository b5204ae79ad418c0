"""A whole run as one CUDA graph.

A plan is a fixed program: which kernels a run launches, and on what, depends neither on the state
nor on the noise. So what one run launches is recorded once, the noise with it, and played again for
other samples: Python, the network's own as well, is no longer in the way. That is worth most where
it is most of the time, at small batches.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Annotated, Any, Protocol

import torch
from torch import Tensor

from . import checks
from . import conditioning as conditions
from .checked import Count, checked
from .checks import AnyGrid, AnySolver, Device
from .denoiser import Denoiser
from .finite import finite
from .noise import Replayed, Seed, check_seeds
from .plans import Plan, Run, bind
from .readers import Later
from .run import Span
from .run.record import Record
from .sampling import DEFAULT_SOLVER, solve
from .starts import Number, Samples
from .typing import Float


class Recorded(Protocol):
    """What was recorded of some work."""

    def replay(self) -> Tensor:
        """Do the work again, on the same memory. Returns what it returned, in the same memory."""
        ...


class CudaGraph:
    """Work on the current CUDA device, recorded by torch.cuda.graph."""

    def __init__(self, work: Callable[[], Tensor]) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # what is made at the first time, and may not be recorded
            for _ in range(2):
                work()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.out = work()

    def replay(self) -> Tensor:
        self.graph.replay()
        return self.out


class Captured:
    """Draws ``n`` samples at a time by playing a recorded run; :func:`capture` makes one.

    Attributes:
        model: the model it is of.
        plan: what is played.
        n: samples in a run.
        reason: why nothing was recorded and runs are made in the ordinary way, None if it was.

    Examples:
        >>> model = flowsolve.exact.Dirac(flowsolve.VP(), [1.0])
        >>> draw = flowsolve.capture(model, n=2, solver="ddim", nfe=1)
        >>> draw.plan.nfe, draw(seed=0).shape
        (1, torch.Size([2, 1]))
    """

    def __init__(
        self,
        model: Denoiser,
        plan: Plan | None,
        n: int,
        device: Device | None = None,
        *,
        how: dict[str, Any] | None = None,
        record: Callable[[Callable[[], Tensor]], Recorded] | None = None,
    ) -> None:
        self.model, self.plan, self.n = model, plan, n
        self.place = checks.check_device(device) if device is not None else model.device
        self.how = {"device": device, **(how or {"solver": plan})}
        self.reason: str | None = None
        try:
            with torch.no_grad():
                self._record(record)
        except Exception as error:  # of the network's, or of CUDA's
            said = str(error).strip().splitlines() or [""]
            self.reason = said[0] or type(error).__name__

    def _record(self, record: Callable[[Callable[[], Tensor]], Recorded] | None) -> None:
        place = self.place or torch.device("cpu")
        if self.plan is None:
            raise ValueError("the solver's steps depend on the data, and a graph is fixed")
        if record is None and place.type != "cuda":
            raise ValueError(f"a CUDA graph needs a CUDA device; the model is on {place}")
        names = self.model.per_sample or ()
        for path, leaf in conditions.leaves(self.model.conditioning):
            if conditions.declared(path, names) and isinstance(leaf, (list, tuple)):
                raise ValueError(f"the rows of {path} are in a {type(leaf).__name__}, no tensor")
        model = checks.check_rows(self.model.in_run(), 0, self.n)
        self.held = model = model.given(**copy.deepcopy(dict(model.conditioning)))
        process, plan = model.process, self.plan
        bound = bind(plan.program, model.answers, process)
        shape, dtype = model.state_shape, model.state_dtype
        self.stream = Replayed(0, range(self.n), shape, dtype, place)
        like = torch.empty((self.n, *shape), dtype=dtype, device=place)
        times, prior = model.times(bound.asked, like), process.prior(plan.levels[0])
        clean = plan.levels[-1].clean

        def work() -> Tensor:
            start, noise = prior @ self.stream.numbered(0), self.stream.along(plan.places)
            x = Run(bound, start, noise, Record(frozenset(), None, None)).through(model, times)
            return process.data(x) if clean else x

        if record is not None:
            self.recorded = record(work)
            return
        with torch.cuda.device(place):
            self.recorded = CudaGraph(work)

    @checked
    def __call__(
        self,
        *,
        seed: Annotated[Seed | None, Later("noise.check_seeds")] = None,
        first: Number = 0,
    ) -> Float[Tensor, "n *shape"]:
        """The samples first, ..., first + n − 1 of ``seed``, as :func:`flowsolve.sample` draws
        them: on the same device to the bit.

        Raises:
            TypeError, ValueError: as :func:`flowsolve.sample`.
            NonFiniteError: the network returned NaN or Inf.
        """
        seed = check_seeds(seed)
        if not isinstance(seed, int) and len(seed) != self.n:
            raise ValueError(f"seed has {len(seed)} numbers; expected one for each of {self.n}")
        if self.reason is None:
            with torch.no_grad():
                self._turn_to(seed, first)
                x = self.recorded.replay().clone()
            if finite(x):
                return x
        return solve(self.model, n=self.n, seed=seed, first=first, **self.how).x

    def _turn_to(self, seed: Seed, first: int) -> None:
        """Put the keys of the noise, and what the samples are told, where the record reads them."""
        self.stream.turn_to(seed, range(first, first + self.n))
        if not self.model.per_sample:
            return
        told = checks.check_rows(self.model, first, self.n).conditioning
        pairs = zip(conditions.leaves(self.held.conditioning), conditions.leaves(told), strict=True)
        for (_, held), (_, new) in pairs:
            if isinstance(held, Tensor):
                held.copy_(new)


@checked
def capture(
    model: Denoiser,
    *,
    n: Samples = 1,
    solver: AnySolver = DEFAULT_SOLVER,
    nfe: Count | None = None,
    grid: AnyGrid = None,
    span: Span = (None, None),
    device: Device | None = None,
    **options: Any,
) -> Captured:
    """Record a whole run of ``n`` samples as one CUDA graph, noise and network included, to be
    played again for other samples.

    Where that cannot be, ``reason`` says why, and the same calls run in the ordinary way: without a
    CUDA device, with a solver whose steps depend on the data, for a network that waits for the
    device or copies from the host (``.item()``, ``torch.tensor(...)`` inside).

    Args:
        n: samples in each run.
        model, solver, nfe, grid, span, device, options: as in :func:`flowsolve.solve`. What the
            model is told of each sample has to be tensors; a network that is trained or moved
            afterwards has to be recorded again.

    Returns:
        A :class:`~flowsolve.recorded.Captured`, called as ``captured(seed=0, first=0)``.

    Raises:
        TypeError, ValueError: as :func:`flowsolve.solve`.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> draw = flowsolve.capture(model, n=4, nfe=5)
        >>> draw.reason
        'a CUDA graph needs a CUDA device; the model is on cpu'
        >>> torch.equal(draw(seed=1), flowsolve.sample(model, n=4, nfe=5, seed=1))
        True
    """
    how = {"solver": solver, "nfe": nfe, "grid": grid, "span": span, **options}
    layout = checks.check_layout(model.process, solver, nfe, grid, span, options, about=model.about)
    return Captured(model, layout.plan, n, device, how=how)
