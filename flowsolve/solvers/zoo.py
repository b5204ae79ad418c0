"""The registry: every solver by its names. A new solver is one row here."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from ..coordinates import DATA, NOISE, VELOCITY
from ..errors import unknown
from ..grids import Grid, Logistic
from ..processes import LAMBDA, TIME
from . import names, singlestep
from .adaptive import Adaptive
from .base import DDIM, Solver
from .bridges import SciPy, TorchDiffEq, TorchDiffEqAdams
from .excursions import Churn, EulerMaruyama, PredictorCorrector, Restart
from .exponential import RES3, Exponential
from .multistep import GradientEstimation, Multistep
from .singlestep import RungeKutta
from .stochastic import Ancestral, ExtendedSDE, ReverseSDE, StagedSDE


@dataclass(frozen=True)
class Row:
    """One solver of the zoo: its names, an instance with the default options, where it comes from."""

    name: str
    solver: Solver
    family: str
    source: str
    aliases: tuple[str, ...] = ()

    @property
    def elsewhere(self) -> tuple[str, ...]:
        """What other tools call it; these names may be used as well, see :mod:`flowsolve.solvers.names`."""
        return names.names_of(self.solver, (self.name, *self.aliases))


#: When to use which.
FAMILIES: dict[str, str] = {
    "one step": "The reference point, with no memory of past evaluations. With the same budget multistep methods are more accurate.",
    "multistep": "The best use of a small budget without noise: every evaluation is a step.",
    "predictor-corrector": "Multistep with one order more at the same cost: the most accurate with few evaluations, and what auto takes.",
    "Runge-Kutta": "Several evaluations a step: no start-up, large steps are stable; worth it from about 50 evaluations on.",
    "exponential": "Runge-Kutta in log σ̄: for long runs down to very low noise.",
    "stochastic": "Noise forgets the errors of earlier steps: more evaluations, often better samples from imperfect networks.",
    "adaptive": "A tolerance in place of a budget, each sample with its own steps.",
    "torchdiffeq": "A tolerance in place of a budget, and gradients by the adjoint.",
    "scipy": "Reference trajectories in float64 on the CPU.",
}


_HEUN = RungeKutta(singlestep.HEUN)
_KUTTA3 = RungeKutta(singlestep.KUTTA3)
_DPMPP2S = Exponential((1 / 2,), midpoint=True)
_ADAPTIVE = ("dopri5", "dopri8", "bosh3", "adaptive_heun", "fehlberg2")


def _ipndm(points: int, starter: Solver | None = None, start_steps: int | None = None) -> Multistep:
    return Multistep(points, starter=starter, weights="constant_step", start_steps=start_steps)


def _unipc(points: int, starter: Solver | None = None) -> Multistep:
    return Multistep(points, DATA, LAMBDA, starter, "midpoint", corrector=True)


def _vpc(points: int, starter: Solver | None = None) -> Multistep:
    return Multistep(points, VELOCITY, LAMBDA, starter, corrector=True, finish=True)


ROWS: tuple[Row, ...] = (
    Row("ddim", DDIM(), "one step", "arXiv 2010.02502, eq. 12; eta=0 is Euler on dx̄ = ε̂ dσ̄", ("euler", "dpm1")),
    Row("flow_euler", DDIM(coordinates=VELOCITY), "one step", "arXiv 2209.03003; 2210.02747; Euler in the flow's time, the same as ddim"),
    Row("gradient_estimation", GradientEstimation(), "one step", "arXiv 2306.04848, eq. 4"),
    Row("ab2", Multistep(2), "multistep", "arXiv 2204.13902, ρAB"),
    Row("ab3", Multistep(3, starter=_HEUN), "multistep", "arXiv 2204.13902, ρAB"),
    Row("ab4", Multistep(4, starter=_KUTTA3), "multistep", "arXiv 2204.13902, ρAB; k-diffusion's LMS", ("lms",)),
    Row("deis2", Multistep(2, variable=TIME), "multistep", "arXiv 2204.13902, tAB"),
    Row("deis3", Multistep(3, variable=TIME, starter=_HEUN), "multistep", "arXiv 2204.13902, tAB"),
    Row("deis4", Multistep(4, variable=TIME, starter=_KUTTA3), "multistep", "arXiv 2204.13902, tAB"),
    Row("ipndm2", _ipndm(2), "multistep", "arXiv 2202.09778, as in 2204.13902"),
    Row("ipndm3", _ipndm(3, _HEUN), "multistep", "arXiv 2202.09778, as in 2204.13902"),
    Row("ipndm4", _ipndm(4, _KUTTA3), "multistep", "arXiv 2202.09778, as in 2204.13902"),
    Row("pndm", _ipndm(4, RungeKutta(singlestep.RK4), 3), "multistep", "arXiv 2202.09778; three Runge-Kutta steps first"),
    Row("plms", _ipndm(4, _HEUN, 1), "multistep", "arXiv 2202.09778, as in latent diffusion; one Heun step first"),
    Row("dpmpp2m", Multistep(2, DATA, LAMBDA, weights="midpoint"), "multistep", "arXiv 2211.01095, algorithm 2", ("unip2",)),
    Row("etd2", Multistep(2, DATA, LAMBDA), "multistep", "arXiv 2308.02157, RES multistep; exponential Adams"),
    Row("etd3", Multistep(3, DATA, LAMBDA, _HEUN), "multistep", "arXiv 2308.02157; 2211.01095; 2302.04867", ("dpmpp3m", "unip3")),
    Row("etd4", Multistep(4, DATA, LAMBDA, _KUTTA3), "multistep", "exponential Adams of order 4"),
    Row("vpc2", _vpc(2), "predictor-corrector", "of flowsolve: the velocity's polynomial in λ, corrected"),
    Row("vpc3", _vpc(3, _KUTTA3), "predictor-corrector", "of flowsolve: the velocity's polynomial in λ, corrected"),
    Row("unipc1", _unipc(1), "predictor-corrector", "arXiv 2302.04867"),
    Row("unipc2", _unipc(2), "predictor-corrector", "arXiv 2302.04867"),
    Row("unipc3", _unipc(3, _KUTTA3), "predictor-corrector", "arXiv 2302.04867"),
    Row("heun", _HEUN, "Runge-Kutta", "arXiv 2206.00364, algorithm 1"),
    Row("midpoint", RungeKutta(singlestep.MIDPOINT), "Runge-Kutta", "arXiv 2204.13902, ρRK"),
    Row("ralston", RungeKutta(singlestep.RALSTON), "Runge-Kutta", "Ralston 1962"),
    Row("kutta3", _KUTTA3, "Runge-Kutta", "arXiv 2204.13902, ρRK"),
    Row("rk4", RungeKutta(singlestep.RK4), "Runge-Kutta", "arXiv 2204.13902, ρRK"),
    Row("flow_heun", RungeKutta(singlestep.HEUN, VELOCITY), "Runge-Kutta", "arXiv 2209.03003"),
    Row("flow_midpoint", RungeKutta(singlestep.MIDPOINT, VELOCITY), "Runge-Kutta", "arXiv 2210.02747"),
    Row("dpm2", Exponential((1 / 2,), NOISE, midpoint=True), "exponential", "arXiv 2206.00927, algorithm 1"),
    Row("dpm3", Exponential((1 / 3, 2 / 3), NOISE), "exponential", "arXiv 2206.00927, algorithm 2"),
    Row("dpmpp2s", _DPMPP2S, "exponential", "arXiv 2211.01095, algorithm 1"),
    Row("dpmpp3s", Exponential((1 / 3, 2 / 3)), "exponential", "arXiv 2211.01095"),
    Row("res2s", Exponential((1 / 2,)), "exponential", "arXiv 2308.02157"),
    Row("res3s", RES3(), "exponential", "arXiv 2308.02157; Hochbruck & Ostermann 2005"),
    Row("ddpm", DDIM(eta=1.0), "stochastic", "arXiv 2006.11239; DDIM with eta=1", ("euler_a",)),
    Row("ddpm_large", DDIM(eta=1.0, large=True), "stochastic", "arXiv 2006.11239; the σ̂ of 2010.02502, table 1"),
    Row("gddim", ReverseSDE(DDIM()), "stochastic", "arXiv 2206.05564, eq. 22"),
    Row("dpm2_a", Ancestral(Exponential((1 / 2,), NOISE, midpoint=True)), "stochastic", "k-diffusion"),
    Row("dpmpp2s_a", Ancestral(_DPMPP2S), "stochastic", "k-diffusion"),
    Row("dpmpp2m_sde", ReverseSDE(Multistep(2, DATA, LAMBDA, weights="midpoint")), "stochastic", "arXiv 2211.01095"),
    Row("dpmpp3m_sde", ReverseSDE(Multistep(3, DATA, LAMBDA)), "stochastic", "arXiv 2211.01095; k-diffusion"),
    Row("dpmpp_sde", StagedSDE(), "stochastic", "arXiv 2211.01095; k-diffusion"),
    Row("sa", ReverseSDE(Multistep(3, DATA, LAMBDA, corrector=True)), "stochastic", "arXiv 2309.05019"),
    *(Row(f"er_sde{q}", ExtendedSDE(Multistep(q, DATA)), "stochastic", "arXiv 2309.06169") for q in (1, 2, 3)),
    Row("edm", Churn(_HEUN), "stochastic", "arXiv 2206.00364, algorithm 2"),
    Row("restart", Restart(_HEUN), "stochastic", "arXiv 2306.14878"),
    Row("pc", PredictorCorrector(DDIM()), "stochastic", "arXiv 2011.13456, algorithms 4 and 5"),
    Row("euler_maruyama", EulerMaruyama(), "stochastic", "arXiv 2011.13456, eq. 6"),
    Row("adaptive", Adaptive(), "adaptive", "Hochbruck & Ostermann 2005, eq. 5.8, with an embedded order 2", ("dpm_adaptive",)),
    *(
        Row(f"torchdiffeq:{name}", TorchDiffEq(name), "torchdiffeq", "torchdiffeq", (name,) if name in _ADAPTIVE else ())
        for name in TorchDiffEq.methods()
    ),
    *(Row(f"torchdiffeq:{name}", TorchDiffEqAdams(name), "torchdiffeq", "torchdiffeq") for name in TorchDiffEqAdams.methods()),
    *(Row(f"scipy:{name}", SciPy(name), "scipy", "scipy.integrate.solve_ivp") for name in SciPy.methods()),
)

NAMES: dict[str, Solver] = {name: row.solver for row in ROWS for name in (row.name, *row.aliases)}


class Table(tuple[Row, ...]):
    """The zoo as rows; prints as a table."""

    def __str__(self) -> str:
        head = ("name", "order", "evaluations", "family", "coordinates, variable", "options", "source", "elsewhere")
        lines = [head, *(_cells(row) for row in self)]
        widths = [max(len(line[k]) for line in lines) for k in range(len(head) - 1)]
        cells = ([*(cell.ljust(w) for cell, w in zip(line, widths, strict=False)), line[-1]] for line in lines)
        return "\n".join("  ".join(line).rstrip() for line in cells)

    def __repr__(self) -> str:
        return str(self)


def _cells(row: Row) -> tuple[str, ...]:
    options = ", ".join(f"{key}={value}" for key, value in options_of(row.solver).items())
    evaluations = row.solver.evaluations
    return (
        ", ".join((row.name, *row.aliases)),
        str(row.solver.order),
        "adaptive" if evaluations is None else f"{evaluations} a step",
        row.family,
        f"{row.solver.coordinates!r}, {row.solver.variable!r}",
        options or "-",
        row.source,
        ", ".join(row.elsewhere),
    )


#: Fields that make a solver what it is; changing them makes another solver of it.
_STRUCTURE = ("large", "points", "corrector", "finish", "start_steps", "n")


def options_of(solver: Solver) -> dict[str, Any]:
    """The options a user may set by keyword, with their values: the plain numbers among the solver's fields."""
    fields = {f.name: getattr(solver, f.name) for f in dataclasses.fields(solver)}
    return {key: value for key, value in fields.items() if isinstance(value, (int, float)) and key not in _STRUCTURE}


def table() -> Table:
    """All solvers."""
    return Table(ROWS)


#: What "auto" stands for with up to so many evaluations: one choice for all processes and data, measured (docs/benchmarks.md).
AUTO: tuple[tuple[float, str, Grid], ...] = (
    (7, "vpc2", Logistic(1.0, 2.0, 2.0)),
    (13, "vpc2", Logistic(1.0, 1.6, 2.4)),
    (math.inf, "vpc3", Logistic(0.7, 1.75, 2.0)),
)
#: What it stands for where A and R are matrices, whose levels have no σ̄; on the process's default grid (docs/gddim.md).
AUTO_IN_TIME = "unipc3"


#: Evaluations of a fixed-step solver when neither nfe nor an explicit grid says otherwise.
DEFAULT_NFE = 20


def meaning(name: str, nfe: int, scalar: bool = True) -> tuple[Solver, Grid | str | None]:
    """The solver that a name stands for with ``nfe`` evaluations, and the grid if it is for both. Raises ValueError for an unknown one."""
    if name in NAMES:
        return NAMES[name], None
    if name == "auto" and not scalar:
        return NAMES[AUTO_IN_TIME], None
    if name == "auto":
        solver, grid = next((solver, grid) for most, solver, grid in AUTO if nfe <= most)
        return NAMES[solver], grid
    found = names.known(name)
    if found is None:
        combined = (f"{label} {word}" for label in names.LABELS for word in names.SCHEDULES)
        raise ValueError(unknown("solver", name, ["auto", *NAMES, *names.LABELS, *names.CLASSES], combined))
    solver, grid = found
    return (NAMES[solver] if isinstance(solver, str) else solver), grid


def choose(solver: Solver | str, options: dict[str, Any], nfe: int, scalar: bool = True) -> tuple[Solver, Grid | str | None]:
    """What :func:`resolve` gives for processes that are ``scalar`` or not, and the grid if the name is for both."""
    grid = None
    if isinstance(solver, str):
        solver, grid = meaning(solver, nfe, scalar)
    if not isinstance(solver, Solver):
        raise TypeError(f"solver={solver!r}: expected a name such as 'ddim' or a flowsolve.solvers object")
    known = {f.name for f in dataclasses.fields(solver)}
    for key in options:
        if key not in known:
            raise TypeError(unknown("option", key, options_of(solver) or ["(none)"]) + f" (an option of {type(solver).__name__})")
    return (dataclasses.replace(solver, **options) if options else solver), grid


def resolve(solver: Solver | str, options: dict[str, Any], nfe: int = DEFAULT_NFE) -> Solver:
    """The solver meant by a name, with ``nfe`` evaluations, or by an object, with ``options`` set on it.

    Raises:
        ValueError: for an unknown name, or an option's value out of range.
        TypeError: for an option the solver does not have, or something that is no solver.
    """
    return choose(solver, options, nfe)[0]
