"""Solvers. ``flowsolve.solvers()`` is the table of all of them; the classes here take their options."""

from __future__ import annotations

import sys
import types

from .adaptive import Adaptive
from .base import DDIM, Solver, legs
from .bridges import SciPy, TorchDiffEq, TorchDiffEqAdams
from .excursions import Churn, EulerMaruyama, PredictorCorrector, Restart
from .exponential import RES3, Exponential
from .multistep import GradientEstimation, Multistep
from .singlestep import HEUN, KUTTA3, MIDPOINT, RALSTON, RK4, RungeKutta, Tableau
from .stochastic import Ancestral, ExtendedSDE, ReverseSDE, StagedSDE
from .zoo import DEFAULT_NFE, Row, Table, choose, meaning, resolve, table

__all__ = [
    "DDIM",
    "DEFAULT_NFE",
    "HEUN",
    "KUTTA3",
    "MIDPOINT",
    "RALSTON",
    "RES3",
    "RK4",
    "Adaptive",
    "Ancestral",
    "Churn",
    "EulerMaruyama",
    "Exponential",
    "ExtendedSDE",
    "GradientEstimation",
    "Multistep",
    "PredictorCorrector",
    "Restart",
    "ReverseSDE",
    "Row",
    "RungeKutta",
    "SciPy",
    "Solver",
    "StagedSDE",
    "Table",
    "Tableau",
    "TorchDiffEq",
    "TorchDiffEqAdams",
    "choose",
    "legs",
    "meaning",
    "resolve",
    "table",
]


class _CallableModule(types.ModuleType):
    """``flowsolve.solvers`` is a package, and ``flowsolve.solvers()`` its table."""

    def __call__(self) -> Table:
        return table()


sys.modules[__name__].__class__ = _CallableModule
