"""Samplers of other libraries, run through their own public face, and the questions they put to the
network.

Two samplers are the same method if they ask the network the same questions, the same states at the
same levels in the same order, and come to the same end. :func:`drive` and :func:`drive_azula`
record the questions of a peer, :func:`ours` those of flowsolve.

A scheduler of diffusers computes in float32 whatever it is given: its tables, its times and, in
places, the state are cast. :func:`float64` lends its module the names ``torch.float32`` and
``numpy.float32`` with the meaning float64; no line of the algorithm changes, and a comparison to
1e-10 is about the algorithm. What the casts cost is measured by itself.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import itertools
import math
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pytest
import torch
from problems import F64, mixture, mixture_run, rms
from torch import Tensor

import flowsolve
from flowsolve import exact
from flowsolve.processes import FLOW_TIME, SIGMA, Level, Process, Variable

#: Stable Diffusion's table, in both libraries' words.
TABLE = flowsolve.VP.discrete(flowsolve.tables.scaled_linear())
TABLE_OPTIONS: dict[str, Any] = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
}

#: Of every test with a peer. What the peers deprecate, or use that is deprecated, is theirs.
MARKS = [
    pytest.mark.peers,
    *(
        pytest.mark.filterwarnings(f"ignore::{kind}")
        for kind in ("DeprecationWarning", "FutureWarning")
    ),
]


def installed(name: str) -> Any:
    """The peer's module; the tests are skipped without it."""
    return pytest.importorskip(
        name, reason="the peers are not installed: pip install -e '.[peers]'"
    )


#: What diffusers calls what both the tests and the tables of docs/peers.md measure.
DPMPP = "DPMSolverMultistepScheduler"
TO_QUIETEST = {"final_sigmas_type": "sigma_min"}
#: Its third-order update; the quadratic term there, and its sign where noise is added.
THIRD = "multistep_dpm_solver_third_order_update"
FACTOR = ("D2 = (1.0 / (r0 + r1))", "D2 = (2.0 / (r0 + r1))")
SIGN = ("(2.0 * h) ** 2 - 0.5", "(2.0 * h) ** 2 + 0.5")


class Run(NamedTuple):
    """The levels and states at which the network was asked, and the result."""

    levels: list[Level]
    states: list[Tensor]
    end: Tensor


def predict(model: exact.Exact, predicts: str, x: Tensor, level: Level) -> Tensor:
    """What a network that predicts this would say."""
    a, r = level.A.value, level.R.value
    if predicts == "F":  # EDM's, which sees a scaled state
        n = math.hypot(r, 0.5)
        return (model(n * x, level).x0 - 0.25 / n * x) * (n / (0.5 * r))
    p = model(x, level)
    return {"eps": p.eps, "velocity": p.eps - p.x0, "v": a * p.eps - r * p.x0}[predicts]


def ours(
    solver: Any,
    times: Sequence[float],
    start: Tensor,
    process: Process = TABLE,
    predicts: str = "eps",
    **arguments: Any,
) -> Run:
    """flowsolve's run over ``times`` on the mixture of tests/problems."""
    model, levels, states = mixture(process), [], []

    def net(x: Tensor, t: Tensor) -> Tensor:
        levels.append(process.level(float(t[0])))
        states.append(x.clone())
        return predict(model, predicts, x, levels[-1])

    denoiser = flowsolve.Denoiser(
        net, process, predicts, tuple(start.shape[1:]), dtype=F64, time="t"
    )
    return Run(
        levels,
        states,
        flowsolve.solve(denoiser, solver=solver, grid=list(times), start=start, **arguments).x,
    )


def assert_same(a: Run, b: Run, end: bool = True) -> None:
    """The same questions, and the same end if that is to be compared."""
    assert len(a.states) == len(b.states)
    for x, y, s, t in zip(a.states, b.states, a.levels, b.levels, strict=True):
        assert abs(s.t - t.t) < 1e-9
        torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-10)
    if end:
        torch.testing.assert_close(a.end, b.end, rtol=1e-10, atol=1e-10)


# diffusers


class _With:
    """A module with some names replaced."""

    def __init__(self, module: Any, **names: Any) -> None:
        self.__dict__.update(names, _module=module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


@contextlib.contextmanager
def float64(cls: type, noise: Sequence[Tensor] = ()) -> Iterator[None]:
    """The module of ``cls`` computes in float64, and takes ``noise`` (zeros, if none) where it
    would draw its own."""
    queue = iter(noise)
    names: dict[str, Any] = {
        "torch": _With(torch, float32=torch.float64),
        "np": _With(np, float32=np.float64),
    }
    names["randn_tensor"] = lambda shape, **_: next(queue) if len(noise) else torch.zeros(shape)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with mock.patch.dict(vars(sys.modules[cls.__module__]), names):
            yield
    finally:
        torch.set_default_dtype(default)


def scheduler_class(name: str) -> Any:
    """A scheduler of diffusers by its class name; its models and pipelines are not imported."""
    return getattr(importlib.import_module("diffusers.schedulers"), name)


def repaired(cls: Any, method: str, *changes: tuple[str, str]) -> Any:
    """``cls`` with some text in the source of one method changed, to show that it was this text."""
    function, code = getattr(cls, method), "from __future__ import annotations\n"
    source = textwrap.dedent(inspect.getsource(function))
    for old, new in changes:
        assert source.count(old) == 1, (
            f"{old!r} is {source.count(old)} times in {cls.__name__}.{method}"
        )
        source = source.replace(old, new)
    namespace: dict[str, Any] = {}
    exec(
        compile(code + source, f"<repaired {method}>", "exec"),
        vars(sys.modules[cls.__module__]),
        namespace,
    )
    return type(cls.__name__, (cls,), {method: namespace[method], "__module__": cls.__module__})


def at(process: Process, variable: Variable, value: float) -> Level:
    """``process.at`` for a value that float32 may have put above the noisiest."""
    return process.at(variable, min(value, variable.of(process.start)))


def _sigmas(scheduler: Any) -> tuple[Variable, list[float]]:
    if hasattr(scheduler, "sigmas"):
        return FLOW_TIME if type(scheduler).__name__.startswith(
            "FlowMatch"
        ) else SIGMA, scheduler.sigmas.tolist()
    return SIGMA, (
        scheduler.betas / scheduler.alphas
    ).tolist()  # IPNDM's betas are the σ's of a VP process


def levels_of(scheduler: Any, process: Process) -> list[Level]:
    """The level of each evaluation as the scheduler computes with it: by its sigmas, or by its
    times if it has none."""
    name, count = type(scheduler).__name__, len(scheduler.timesteps)
    if not hasattr(scheduler, "sigmas") and name != "IPNDMScheduler":
        return [process.level(float(t)) for t in scheduler.timesteps]
    variable, sigmas = _sigmas(scheduler)
    if hasattr(
        scheduler, "sigmas_interpol"
    ):  # KDPM2: every second evaluation is made in the middle of a step
        behind = "Ancestral" in name
        sigmas = [
            float(scheduler.sigmas_interpol[k - behind]) if k % 2 else s
            for k, s in enumerate(sigmas)
        ]
    return [at(process, variable, sigma) for sigma in sigmas[:count]]


def grid_of(scheduler: Any, process: Process, calls: int = 1) -> list[float]:
    """The times at which the scheduler's steps begin, and where the last ends; ``calls``:
    evaluations a step, DPMSolverSinglestep's."""
    name = type(scheduler).__name__
    if not hasattr(scheduler, "sigmas") and name != "IPNDMScheduler":
        times = scheduler._timesteps[::-1] if name == "PNDMScheduler" else scheduler.timesteps
        return [*map(float, times), -1.0]
    variable, sigmas = _sigmas(scheduler)
    sigmas = [*sigmas[: len(sigmas) - 1 : calls], sigmas[-1]]
    return [at(process, variable, sigma).t for sigma in dict.fromkeys(sigmas)]


def scaled(scheduler: Any) -> bool:
    """Whether the scheduler's state is x/A."""
    return hasattr(scheduler, "sigmas") and getattr(scheduler, "init_noise_sigma", 1.0) != 1.0


def drive(
    scheduler: Any,
    model: exact.Exact,
    start: Tensor,
    predicts: str = "eps",
    known: Sequence[Tensor] = (),
    told: bool = False,
    **step: Any,
) -> Run:
    """Run a scheduler as diffusers' pipelines do. With ``known``, its first steps end on these
    states. With ``told``, the network answers for the level of the time it is told, which on a
    rounded grid is not the level the scheduler computes with."""
    process, states = model.process, []
    levels = (
        [process.level(float(t)) for t in scheduler.timesteps]
        if told
        else levels_of(scheduler, process)
    )
    scale_input = getattr(scheduler, "scale_model_input", lambda x, t: x)
    unit = [level.A.value if scaled(scheduler) else 1.0 for level in levels]
    x = start / unit[0]
    for k, t in enumerate(scheduler.timesteps):
        states.append(scale_input(x, t))
        x = scheduler.step(
            predict(model, predicts, states[-1], levels[k]), t, x, return_dict=False, **step
        )[0]
        if k < len(known):
            x = known[k] / unit[k + 1]
            if hasattr(scheduler, "last_sample"):
                scheduler.last_sample = None  # a corrector has nothing to correct
    return Run(levels, states, x)


def theirs(
    name: str | Any,
    steps: int,
    start: Tensor,
    options: dict[str, Any] | None = None,
    process: Process = TABLE,
    noise: Sequence[Tensor] = (),
    model: exact.Exact | None = None,
    **arguments: Any,
) -> tuple[Run, Any]:
    """The run of a scheduler in float64 on the mixture (or ``model``), and the scheduler."""
    cls = scheduler_class(name) if isinstance(name, str) else name
    with float64(cls, noise):
        scheduler = cls(**(TABLE_OPTIONS if options is None else options))
        scheduler.set_timesteps(steps)
        return drive(scheduler, model or mixture(process), start, **arguments), scheduler


# azula


def azula_levels(process: Process) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """A noise schedule as azula wants it, (alpha, sigma) of t, that is ``process``."""

    def schedule(t: Tensor) -> tuple[Tensor, ...]:
        levels = [process.level(float(v)) for v in t.reshape(-1)]
        return tuple(
            torch.tensor(part, dtype=F64).view(t.shape)
            for part in zip(*((v.A.value, v.R.value) for v in levels), strict=True)
        )

    return schedule


def drive_azula(
    cls: Any,
    times: Sequence[float],
    start: Tensor,
    model: exact.Exact,
    noise: Sequence[Tensor] = (),
    known: Sequence[Tensor] = (),
    **options: Any,
) -> Run:
    """Run an azula sampler over ``times``. With ``known``, its first steps end on these states."""
    levels, states = [], []

    def denoise(x: Tensor, t: Tensor) -> SimpleNamespace:
        if 0 < len(levels) <= len(known):
            x.copy_(known[len(levels) - 1])
        levels.append(model.process.level(float(t)))
        states.append(x.clone())
        return SimpleNamespace(mean=model(x, levels[-1]).x0)

    denoise.schedule = azula_levels(model.process)  # type: ignore[attr-defined]
    queue, module = iter(noise), sys.modules[cls.__module__]
    grid = type(
        cls.__name__,
        (cls,),
        {"timesteps": property(lambda self: torch.tensor(list(times), dtype=F64))},
    )
    with mock.patch.dict(vars(module), {"torch": _With(torch, randn_like=lambda x: next(queue))}):
        end = grid(denoise, silent=True, dtype=F64, **options)(start.clone())
    return Run(levels, states, end)


# Orders of convergence: VP() from σ̄ = 2 to 0.4 as in test_orders, on a table whose entries are the
# levels of the grid

PROCESS = flowsolve.VP()
GRIDS = {"time": flowsolve.grids.Uniform(), "karras": flowsolve.grids.Karras()}
#: These drop the quietest time and end on it instead.
_ENDS_ON_THE_TABLE = ("DPMSolver", "DEIS", "UniPC", "SASolver", "IPNDM")


def span_levels(grid: str, n: int) -> tuple[Level, ...]:
    return GRIDS[grid].levels(PROCESS, n, PROCESS.at(SIGMA, 2.0), PROCESS.at(SIGMA, 0.4))


def table_of(levels: Sequence[Level]) -> list[float]:
    """The β's of a table whose entries are ``levels``, noisiest first."""
    kept = [level.A.value**2 for level in reversed(levels)]
    return [1.0 - kept[0], *(1.0 - b / a for a, b in itertools.pairwise(kept))]


def exact_states(levels: Sequence[Level], start: Tensor) -> Tensor:
    """The solution from ``start`` at each of ``levels`` after the first."""
    solution = flowsolve.solve(
        mixture(PROCESS),
        solver="scipy:DOP853",
        rtol=3e-14,
        atol=1e-15,
        grid=[v.t for v in levels],
        start=start,
        keep="path",
    )
    return solution.path[1:]


def run_on(
    cls: Any,
    options: dict[str, Any],
    levels: Sequence[Level],
    start: Tensor,
    model: Any = mixture,
    **arguments: Any,
) -> Tensor:
    """A scheduler's state at the last of ``levels``."""
    betas, name, n = table_of(levels), cls.__name__, len(levels) - 1
    process = flowsolve.VP.discrete(betas)
    if name == "IPNDMScheduler":
        betas, options, arguments = (
            [v.R.value for v in levels],
            {**options, "num_train_timesteps": n},
            {**arguments, "predicts": "v"},
        )
    else:
        if name == "PNDMScheduler" and not options.get(
            "skip_prk_steps"
        ):  # its stages lie on the entries between
            n, betas = n // 2, [*betas, 1e-3]
        options = {"num_train_timesteps": len(betas), **options}
    ends = name.startswith(_ENDS_ON_THE_TABLE)
    noise = arguments.pop("noise", ())
    run, _ = theirs(
        cls,
        n if ends else n + 1,
        start,
        {**options, "trained_betas": betas},
        noise=noise,
        model=model(process),
        **arguments,
    )
    return run.end if ends else run.states[-1]


def slope(errors: Sequence[float]) -> float:
    """The mean slope over doublings."""
    return math.log2(errors[0] / errors[-1]) / (len(errors) - 1)


def order(
    name: Any, options: dict[str, Any], grid: str, first: int = 0, ns: Sequence[int] = (24, 48, 96)
) -> float:
    """The measured order of a scheduler or an azula sampler whose first ``first`` steps are
    exact."""
    cls = scheduler_class(name) if isinstance(name, str) else name
    model, start, end, _ = mixture_run(PROCESS, 2.0, 0.4)
    errors = []
    for n in ns:
        refined = 2 if cls.__name__ == "PNDMScheduler" and not options.get("skip_prk_steps") else 1
        levels = span_levels(grid, n * refined)
        known = exact_states(levels[: first + 1], start) if first else ()
        if cls.__module__.startswith("azula"):
            x = drive_azula(cls, [v.t for v in levels], start, model, known=known, **options).end
        else:
            x = run_on(cls, options, levels, start, known=known)
        errors.append(rms(x - end))
    return slope(errors)


def their_variance_error(name: Any, options: dict[str, Any], grid: str, n: int) -> float:
    """:func:`variance_error` of a scheduler, by name or class."""
    cls = scheduler_class(name) if isinstance(name, str) else name
    return variance_error(
        lambda start, noise, levels, model: run_on(
            cls, options, levels, start, model=model, noise=noise
        ),
        grid,
        n,
    )


def our_variance_error(solver: str, grid: str, n: int) -> float:
    """:func:`variance_error` of flowsolve's solver, which draws up to twice a step."""
    return variance_error(
        lambda start, noise, levels, model: (
            flowsolve.solve(
                model(PROCESS), solver=solver, grid=[v.t for v in levels], start=start, noise=noise
            ).x
        ),
        grid,
        n,
        draws=2,
    )


def variance_error(
    respond: Callable[[Tensor, list[Tensor], Sequence[Level], Any], Tensor],
    grid: str,
    n: int,
    draws: int = 1,
) -> float:
    """The largest relative error of the variance at the end, for Gaussian data: a run is linear in
    its start and its noises, so one run of a batch, sample k with the k-th of them 1 and the others
    0, gives the variance without sampling error."""
    levels, data = span_levels(grid, n), torch.tensor([0.25, 1.5], dtype=F64)
    noisy, quiet = (v.A.value**2 * data + v.R.value**2 for v in (levels[0], levels[-1]))
    unit = torch.eye(draws * n + 1, dtype=F64)[:, :, None].expand(-1, -1, 2)
    end = respond(
        unit[0] * noisy.sqrt(),
        list(unit[1:]),
        levels,
        lambda process: exact.Gaussian(process, [0.0, 0.0], data),
    )
    return float((end.square().sum(0) / quiet - 1.0).abs().max())
