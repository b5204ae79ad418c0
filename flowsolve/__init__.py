"""flowsolve: sampling from diffusion and flow models, for every solver and every trained network.

model = flowsolve.Denoiser(net, process=flowsolve.VP(), predicts="eps", shape=(3, 32, 32))
x = flowsolve.sample(model, solver="ddim", nfe=20, n=64, seed=0)
"""

from . import exact, grids, solvers
from .denoiser import Denoiser, Prediction, clip, dynamic_threshold
from .encoding import encode
from .errors import BudgetExceeded, NonFiniteError
from .processes import EDM, VE, VP, Level, Process, RectifiedFlow, SubVP, tables
from .run import Solution, State
from .sampling import sample, solve

__version__ = "0.1.0"

__all__ = [
    "EDM",
    "VE",
    "VP",
    "BudgetExceeded",
    "Denoiser",
    "Level",
    "NonFiniteError",
    "Prediction",
    "Process",
    "RectifiedFlow",
    "Solution",
    "State",
    "SubVP",
    "clip",
    "dynamic_threshold",
    "encode",
    "exact",
    "grids",
    "sample",
    "solve",
    "solvers",
    "tables",
]
