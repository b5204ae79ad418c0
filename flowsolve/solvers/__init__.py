"""Solvers. ``flowsolve.solvers()`` is the table of all of them; the classes here take their options."""

from __future__ import annotations

import sys
import types

from .base import DDIM, Solver, legs
from .bridges import SciPy, TorchDiffEq, TorchDiffEqAdams
from .exponential import Exponential
from .multistep import Multistep
from .singlestep import HEUN, KUTTA3, MIDPOINT, RALSTON, RK4, RungeKutta, Tableau
from .zoo import Row, Table, resolve, table

__all__ = [
    "DDIM",
    "HEUN",
    "KUTTA3",
    "MIDPOINT",
    "RALSTON",
    "RK4",
    "Exponential",
    "Multistep",
    "Row",
    "RungeKutta",
    "SciPy",
    "Solver",
    "Table",
    "Tableau",
    "TorchDiffEq",
    "TorchDiffEqAdams",
    "legs",
    "resolve",
    "table",
]


class _CallableModule(types.ModuleType):
    """``flowsolve.solvers`` is a package, and ``flowsolve.solvers()`` its table."""

    def __call__(self) -> Table:
        return table()


sys.modules[__name__].__class__ = _CallableModule
