"""The registry: every solver by its names. A new solver is one row here."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from ..coordinates import DATA, NOISE, VELOCITY
from ..errors import unknown
from ..processes import LAMBDA, TIME
from . import singlestep
from .base import DDIM, Solver
from .bridges import SciPy, TorchDiffEq, TorchDiffEqAdams
from .exponential import Exponential
from .multistep import Multistep
from .singlestep import RungeKutta


@dataclass(frozen=True)
class Row:
    """One solver of the zoo: its names, an instance with the default options, where it comes from."""

    name: str
    solver: Solver
    family: str
    source: str
    aliases: tuple[str, ...] = ()


_HEUN = RungeKutta(singlestep.HEUN)
_KUTTA3 = RungeKutta(singlestep.KUTTA3)
_ADAPTIVE = ("dopri5", "dopri8", "bosh3", "adaptive_heun", "fehlberg2")

ROWS: tuple[Row, ...] = (
    Row("ddim", DDIM(), "one step", "arXiv 2010.02502, eq. 12; eta=0 is Euler on dx̄ = ε̂ dσ̄", ("euler", "dpm1")),
    Row("ddpm", DDIM(eta=1.0), "stochastic", "arXiv 2006.11239; DDIM with eta=1"),
    Row("ddpm_large", DDIM(eta=1.0, large=True), "stochastic", "arXiv 2006.11239; the σ̂ of 2010.02502, table 1"),
    Row("heun", _HEUN, "Runge-Kutta", "arXiv 2206.00364, algorithm 1"),
    Row("midpoint", RungeKutta(singlestep.MIDPOINT), "Runge-Kutta", "arXiv 2204.13902, ρRK"),
    Row("ralston", RungeKutta(singlestep.RALSTON), "Runge-Kutta", "Ralston 1962"),
    Row("kutta3", _KUTTA3, "Runge-Kutta", "arXiv 2204.13902, ρRK"),
    Row("rk4", RungeKutta(singlestep.RK4), "Runge-Kutta", "arXiv 2204.13902, ρRK"),
    Row("flow_euler", DDIM(coordinates=VELOCITY), "one step", "arXiv 2209.03003; 2210.02747; Euler in the flow's time, the same as ddim"),
    Row("flow_heun", RungeKutta(singlestep.HEUN, VELOCITY), "Runge-Kutta", "arXiv 2209.03003"),
    Row("flow_midpoint", RungeKutta(singlestep.MIDPOINT, VELOCITY), "Runge-Kutta", "arXiv 2210.02747"),
    Row("dpm2", Exponential((1 / 2,), NOISE, midpoint=True), "exponential", "arXiv 2206.00927, algorithm 1"),
    Row("dpm3", Exponential((1 / 3, 2 / 3), NOISE), "exponential", "arXiv 2206.00927, algorithm 2"),
    Row("dpmpp2s", Exponential((1 / 2,), midpoint=True), "exponential", "arXiv 2211.01095, algorithm 1"),
    Row("dpmpp3s", Exponential((1 / 3, 2 / 3)), "exponential", "arXiv 2211.01095"),
    Row("res2s", Exponential((1 / 2,)), "exponential", "arXiv 2308.02157"),
    Row("ab2", Multistep(2), "multistep", "arXiv 2204.13902, ρAB"),
    Row("ab3", Multistep(3, starter=_HEUN), "multistep", "arXiv 2204.13902, ρAB"),
    Row("ab4", Multistep(4, starter=_KUTTA3), "multistep", "arXiv 2204.13902, ρAB; k-diffusion's LMS", ("lms",)),
    Row("deis2", Multistep(2, variable=TIME), "multistep", "arXiv 2204.13902, tAB"),
    Row("deis3", Multistep(3, variable=TIME, starter=_HEUN), "multistep", "arXiv 2204.13902, tAB"),
    Row("deis4", Multistep(4, variable=TIME, starter=_KUTTA3), "multistep", "arXiv 2204.13902, tAB"),
    Row("etd2", Multistep(2, DATA, LAMBDA), "multistep", "arXiv 2308.02157, RES multistep; exponential Adams"),
    Row("etd3", Multistep(3, DATA, LAMBDA, _HEUN), "multistep", "arXiv 2308.02157, RES multistep; exponential Adams"),
    Row("etd4", Multistep(4, DATA, LAMBDA, _KUTTA3), "multistep", "exponential Adams of order 4"),
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
        head = ("name", "order", "evaluations", "family", "coordinates, variable", "options", "source")
        lines = [head, *(_cells(row) for row in self)]
        widths = [max(len(line[k]) for line in lines) for k in range(len(head) - 1)]
        return "\n".join("  ".join([*(cell.ljust(w) for cell, w in zip(line, widths, strict=False)), line[-1]]) for line in lines)

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
    )


def options_of(solver: Solver) -> dict[str, Any]:
    """The options a user may set by keyword, with their values: the plain numbers among the solver's fields."""
    fields = {f.name: getattr(solver, f.name) for f in dataclasses.fields(solver)}
    return {key: value for key, value in fields.items() if isinstance(value, (int, float)) and key not in ("order", "large")}


def table() -> Table:
    """All solvers."""
    return Table(ROWS)


def resolve(solver: Solver | str, options: dict[str, Any]) -> Solver:
    """The solver meant by a name or an object, with ``options`` set on it.

    Raises:
        ValueError: for an unknown name, or an option's value out of range.
        TypeError: for an option the solver does not have, or something that is no solver.
    """
    if isinstance(solver, str):
        if solver not in NAMES:
            raise ValueError(unknown("solver", solver, NAMES))
        solver = NAMES[solver]
    if not isinstance(solver, Solver):
        raise TypeError(f"solver={solver!r}: expected a name such as 'ddim' or a flowsolve.solvers object")
    known = {f.name for f in dataclasses.fields(solver)}
    for key in options:
        if key not in known:
            raise TypeError(unknown("option", key, options_of(solver) or ["(none)"]) + f" (an option of {type(solver).__name__})")
    return dataclasses.replace(solver, **options) if options else solver
