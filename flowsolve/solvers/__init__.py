"""Solvers: the classes, which take their options; :func:`flowsolve.solver_table` lists them all."""

import importlib
import pkgutil

from .adaptive import Adaptive
from .base import Hold, Solver
from .budget import Step, drive
from .churn import Churn
from .ddim import DDIM
from .descent import Ancestral, Consistency, ExtendedSDE, ReverseSDE
from .exponential import RES3, Exponential
from .lookup import DEFAULT_NFE, find_solver, name_of
from .multistep import GradientEstimation, Multistep, Starter
from .ode import Evaluation, Evaluator, Ode, Past
from .restart import Restart
from .runge_kutta import HEUN, KUTTA3, MIDPOINT, RALSTON, RK4, RungeKutta, Tableau
from .scipy import SciPy
from .score_sde import EulerMaruyama, PredictorCorrector
from .staged_sde import StagedSDE
from .torchdiffeq import TorchDiffEq, TorchDiffEqAdams
from .weights import Polynomial
from .zoo import Row, Table, add, options_of, solver_table

# A solver in a file of its own is known, whether it has a name here or not.
for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")

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
    "Consistency",
    "EulerMaruyama",
    "Evaluation",
    "Evaluator",
    "Exponential",
    "ExtendedSDE",
    "GradientEstimation",
    "Hold",
    "Multistep",
    "Ode",
    "Past",
    "Polynomial",
    "PredictorCorrector",
    "Restart",
    "ReverseSDE",
    "Row",
    "RungeKutta",
    "SciPy",
    "Solver",
    "StagedSDE",
    "Starter",
    "Step",
    "Table",
    "Tableau",
    "TorchDiffEq",
    "TorchDiffEqAdams",
    "add",
    "drive",
    "find_solver",
    "name_of",
    "options_of",
    "solver_table",
]
