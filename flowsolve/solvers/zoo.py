"""Every solver by its names. A new solver is one row here, or one call of :func:`add`."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from typing import Any

from ..checked import checked
from ..coordinates import DATA, FLOW, NOISE
from ..output import columns
from ..processes import FLOW_TIME, LAMBDA, TIME, Variable
from . import aliases, runge_kutta
from .adaptive import Adaptive
from .base import Solver
from .churn import Churn
from .ddim import DDIM
from .descent import Ancestral, Consistency, ExtendedSDE, ReverseSDE
from .exponential import RES3, Exponential
from .multistep import GradientEstimation, Multistep, Starter
from .restart import Restart
from .runge_kutta import RungeKutta
from .scipy import SciPy
from .score_sde import EulerMaruyama, PredictorCorrector
from .staged_sde import StagedSDE
from .torchdiffeq import TorchDiffEq, TorchDiffEqAdams
from .weights import Polynomial


@checked
@dataclass(frozen=True)
class Row:
    """One solver of the zoo: its names, an instance with the default options, its family (one of
    ``FAMILIES``), where it comes from."""

    name: str
    solver: Solver
    family: str
    source: str
    aliases: tuple[str, ...] = ()

    @property
    def elsewhere(self) -> tuple[str, ...]:
        """What other tools call it; these names may be used as well, see
        :mod:`flowsolve.solvers.aliases`."""
        return aliases.names_of(self.solver, (self.name, *self.aliases))


#: When to use which.
FAMILIES: dict[str, str] = {
    "one step": "The reference point, with no memory of past evaluations. With the same budget "
    "multistep methods are more accurate.",
    "multistep": "The best use of a small budget without noise: every evaluation is a step.",
    "predictor-corrector": "Multistep with one order more at the same cost: the most accurate with "
    "few evaluations, and what auto takes.",
    "Runge-Kutta": "Several evaluations a step, no start-up; on some grids they need 30 to 50 "
    "evaluations to be better than ddim.",
    "exponential": "Runge-Kutta in log σ̄: for long runs down to very low noise.",
    "stochastic": "Fresh noise on the way; with no noise each is a deterministic solver.",
    "adaptive": "A tolerance in place of a budget, each sample with its own steps.",
    "torchdiffeq": "A tolerance in place of a budget, and gradients by the adjoint.",
    "scipy": "Reference trajectories in float64 on the CPU.",
}

_HEUN, _KUTTA3 = RungeKutta(runge_kutta.HEUN), RungeKutta(runge_kutta.KUTTA3)
_DPM2, _DPMPP2S = (Exponential((1 / 2,), c, midpoint=True) for c in (NOISE, DATA))
_ADAPTIVE = ("dopri5", "dopri8", "bosh3", "adaptive_heun", "fehlberg2")
_ETD2, _ETD3, _ETD4 = (Polynomial(points, DATA, LAMBDA) for points in (2, 3, 4))
_DPMPP2M = Multistep(Polynomial(2, DATA, LAMBDA, "midpoint"))


def _ab(points: int, starter: Solver | None = None) -> Multistep:
    return Multistep(Polynomial(points), starter=starter and Starter(starter))


def _deis(points: int, starter: Solver | None = None) -> Multistep:
    return Multistep(Polynomial(points, variable=TIME), starter=starter and Starter(starter))


def _ipndm(points: int, starter: Solver | None = None, steps: int | None = None) -> Multistep:
    polynomial = Polynomial(points, weights="constant_step")
    return Multistep(polynomial, starter=starter and Starter(starter, steps))


def _unipc(points: int, starter: Solver | None = None) -> Multistep:
    predictor, corrector = (Polynomial(k, DATA, LAMBDA, "midpoint") for k in (points, points + 1))
    return Multistep(predictor, corrector, starter and Starter(starter))


def _flow(points: int, variable: Variable, starter: Solver | None = None) -> Multistep:
    predictor, corrector = (Polynomial(k, FLOW, variable) for k in (points, points + 1))
    return Multistep(predictor, corrector, starter and Starter(starter), finish=True)


# fmt: off
_ROWS = (
    Row("ddim", DDIM(), "one step", "arXiv 2010.02502, eq. 12; eta=0 is Euler on dx̄ = ε̂ dσ̄",
        ("euler", "dpm1")),
    Row("flow_euler", DDIM(coordinates=FLOW), "one step",
        "arXiv 2209.03003; 2210.02747; Euler in the flow's time, the same as ddim"),
    Row("gradient_estimation", GradientEstimation(), "multistep", "arXiv 2306.04848, eq. 4"),
    Row("ab2", _ab(2), "multistep", "arXiv 2204.13902, ρAB"),
    Row("ab3", _ab(3, _HEUN), "multistep", "arXiv 2204.13902, ρAB"),
    Row("ab4", _ab(4, _KUTTA3), "multistep", "arXiv 2204.13902, ρAB; k-diffusion's LMS", ("lms",)),
    Row("deis2", _deis(2), "multistep", "arXiv 2204.13902, tAB"),
    Row("deis3", _deis(3, _HEUN), "multistep", "arXiv 2204.13902, tAB"),
    Row("deis4", _deis(4, _KUTTA3), "multistep", "arXiv 2204.13902, tAB"),
    Row("ipndm2", _ipndm(2), "multistep", "arXiv 2202.09778, as in 2204.13902"),
    Row("ipndm3", _ipndm(3, _HEUN), "multistep", "arXiv 2202.09778, as in 2204.13902"),
    Row("ipndm4", _ipndm(4, _KUTTA3), "multistep", "arXiv 2202.09778, as in 2204.13902"),
    Row("pndm", _ipndm(4, RungeKutta(runge_kutta.RK4), 3), "multistep",
        "arXiv 2202.09778; three Runge-Kutta steps first"),
    Row("plms", _ipndm(4, _HEUN, 1), "multistep",
        "arXiv 2202.09778, as in latent diffusion; one Heun step first"),
    Row("dpmpp2m", _DPMPP2M, "multistep", "arXiv 2211.01095, algorithm 2", ("unip2",)),
    Row("etd2", Multistep(_ETD2), "multistep",
        "arXiv 2308.02157, RES multistep; exponential Adams"),
    Row("etd3", Multistep(_ETD3, starter=Starter(_HEUN)), "multistep",
        "arXiv 2308.02157; 2211.01095; 2302.04867", ("dpmpp3m", "unip3")),
    Row("etd4", Multistep(_ETD4, starter=Starter(_KUTTA3)), "multistep",
        "exponential Adams of order 4"),
    *(Row(f"{letter}pc{q}", _flow(q, variable, _KUTTA3 if q == 3 else None), "predictor-corrector",
          f"of flowsolve: the polynomial of ε̂ − x̂0 in {word}, corrected")
      for letter, variable, word in (("v", LAMBDA, "λ"), ("f", FLOW_TIME, "flow time"))
      for q in (2, 3)),
    Row("unipc1", _unipc(1), "predictor-corrector", "arXiv 2302.04867"),
    Row("unipc2", _unipc(2), "predictor-corrector", "arXiv 2302.04867"),
    Row("unipc3", _unipc(3, _KUTTA3), "predictor-corrector", "arXiv 2302.04867"),
    Row("abc3", Multistep(Polynomial(3), Polynomial(3, FLOW, LAMBDA), Starter(_HEUN)),
        "predictor-corrector",
        "arXiv 2302.04867's corrector in flow coordinates, 2204.13902's predictor ρAB"),
    Row("heun", _HEUN, "Runge-Kutta", "arXiv 2206.00364, algorithm 1"),
    Row("midpoint", RungeKutta(runge_kutta.MIDPOINT), "Runge-Kutta", "arXiv 2204.13902, ρRK"),
    Row("ralston", RungeKutta(runge_kutta.RALSTON), "Runge-Kutta", "Ralston 1962"),
    Row("kutta3", _KUTTA3, "Runge-Kutta", "arXiv 2204.13902, ρRK"),
    Row("rk4", RungeKutta(runge_kutta.RK4), "Runge-Kutta", "arXiv 2204.13902, ρRK"),
    Row("flow_heun", RungeKutta(runge_kutta.HEUN, FLOW), "Runge-Kutta", "arXiv 2209.03003"),
    Row("flow_midpoint", RungeKutta(runge_kutta.MIDPOINT, FLOW), "Runge-Kutta", "arXiv 2210.02747"),
    Row("dpm2", _DPM2, "exponential", "arXiv 2206.00927, algorithm 1"),
    Row("dpm3", Exponential((1 / 3, 2 / 3), NOISE), "exponential", "arXiv 2206.00927, algorithm 2"),
    Row("dpmpp2s", _DPMPP2S, "exponential", "arXiv 2211.01095, algorithm 1"),
    Row("dpmpp3s", Exponential((1 / 3, 2 / 3)), "exponential", "arXiv 2211.01095"),
    Row("res2s", Exponential((1 / 2,)), "exponential", "arXiv 2308.02157"),
    Row("res3s", RES3(), "exponential", "arXiv 2308.02157; Hochbruck & Ostermann 2005"),
    Row("ddpm", DDIM(eta=1.0), "stochastic", "arXiv 2006.11239; DDIM with eta=1", ("euler_a",)),
    Row("ddpm_large", DDIM(eta=1.0, large=True), "stochastic",
        "arXiv 2006.11239; the σ̂ of 2010.02502, table 1"),
    Row("gddim", ReverseSDE(DDIM()), "stochastic", "arXiv 2206.05564, eq. 22"),
    Row("dpm2_a", Ancestral(_DPM2), "stochastic", "k-diffusion"),
    Row("dpmpp2s_a", Ancestral(_DPMPP2S), "stochastic", "k-diffusion"),
    Row("dpmpp2m_sde", ReverseSDE(_DPMPP2M), "stochastic", "arXiv 2211.01095"),
    Row("dpmpp3m_sde", ReverseSDE(Multistep(_ETD3)), "stochastic", "arXiv 2211.01095; k-diffusion"),
    Row("dpmpp_sde", StagedSDE(), "stochastic", "arXiv 2211.01095; k-diffusion"),
    Row("sa", ReverseSDE(Multistep(_ETD3, _ETD4)), "stochastic", "arXiv 2309.05019"),
    *(Row(f"er_sde{q}", ExtendedSDE(Multistep(Polynomial(q, DATA))), "stochastic",
          "arXiv 2309.06169") for q in (1, 2, 3)),
    Row("edm", Churn(_HEUN), "stochastic", "arXiv 2206.00364, algorithm 2"),
    Row("restart", Restart(_HEUN), "stochastic", "arXiv 2306.14878"),
    Row("pc", PredictorCorrector(DDIM()), "stochastic", "arXiv 2011.13456, algorithms 4 and 5"),
    Row("lcm", Consistency(), "stochastic",
        "arXiv 2303.01469, algorithm 1; 2310.04378; for consistency models"),
    Row("euler_maruyama", EulerMaruyama(), "stochastic", "arXiv 2011.13456, eq. 6"),
    Row("adaptive", Adaptive(), "adaptive",
        "Hochbruck & Ostermann 2005, eq. 5.8, with an embedded order 2", ("dpm_adaptive",)),
    *(Row(f"torchdiffeq:{name}", TorchDiffEq(name), "torchdiffeq", "torchdiffeq",
          (name,) if name in _ADAPTIVE else ()) for name in TorchDiffEq.methods()),
    *(Row(f"torchdiffeq:{name}", TorchDiffEqAdams(name), "torchdiffeq", "torchdiffeq")
      for name in TorchDiffEqAdams.methods()),
    *(Row(f"scipy:{name}", SciPy(name), "scipy", "scipy.integrate.solve_ivp")
      for name in SciPy.methods()),
)
# fmt: on

_KNOWN: dict[str, Row] = {}


def add(*rows: Row) -> None:
    """Enter solvers into the table, so that they are known by name.

    Raises:
        TypeError, ValueError: for a name that is taken, an unknown family, and what is no solver;
            nothing is entered then.
    """
    for row in rows:
        if not isinstance(row, Row):
            raise TypeError(f"row={row!r}: expected a flowsolve.solvers.Row")
    names = [name for row in rows for name in (row.name, *row.aliases)]
    taken = {*_KNOWN, "auto", *aliases.LABELS, *aliases.CLASSES, *aliases.FUNCTIONS}
    for k, name in enumerate(names):
        if name in taken or name in names[:k]:
            raise ValueError(f"name={name!r} is taken; expected one that no solver has")
    for row in rows:
        if row.family not in FAMILIES:
            raise ValueError(f"family={row.family!r}: expected one of {', '.join(FAMILIES)}")
    _KNOWN.update({name: row for row in rows for name in (row.name, *row.aliases)})


add(*_ROWS)


class Table(tuple[Row, ...]):
    """The zoo as rows; prints as a table, a line a row, as wide as the terminal."""

    def __str__(self) -> str:
        head = ["name", "order", "nfe", "options; source; also known as"]
        lines = columns([head, *(_cells(row) for row in self)], "<>>").splitlines()
        width = max(60, shutil.get_terminal_size().columns)
        return "\n".join(
            line if len(line) <= width else line[: width - 1].rstrip(" ,;") + "…" for line in lines
        )

    def __repr__(self) -> str:
        return str(self)


def _cells(row: Row) -> list[str]:
    """The row in words; "nfe" is evaluations a step, "-" where the method decides."""
    options = ", ".join(f"{key}={value:g}" for key, value in options_of(row.solver).items())
    also = ", ".join((*row.aliases, *row.elsewhere))
    return [
        row.name,
        str(row.solver.order),
        str(row.solver.evaluations or "-"),
        "; ".join(filter(None, (options, row.source, also))),
    ]


def solver_table() -> Table:
    """Every solver that is known: name, order, evaluations, family, options, source.

    Examples:
        >>> [row.name for row in flowsolve.solver_table() if row.family == "one step"]
        ['ddim', 'flow_euler']
    """
    return Table(dict.fromkeys(_KNOWN.values()))


def by_name() -> dict[str, Solver]:
    """The solvers by their names and aliases."""
    return {name: row.solver for name, row in _KNOWN.items()}


@checked
def options_of(solver: Solver) -> dict[str, Any]:
    """The options a user may set by keyword, with their values: the plain numbers among the
    solver's fields. Flags and objects make it what it is."""
    fields = {f.name: getattr(solver, f.name) for f in dataclasses.fields(solver)}
    return {k: v for k, v in fields.items() if type(v) in (int, float)}
