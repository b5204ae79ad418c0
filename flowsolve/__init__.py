"""flowsolve: sampling from diffusion and flow models, for every solver and every trained network.

    >>> model = flowsolve.Denoiser(net, process=flowsolve.VP(), predicts="eps", shape=(3, 32, 32))
    >>> x = flowsolve.sample(model, solver="ddim", nfe=20, n=64, seed=0)

Names are imported when they are first used, so that ``import flowsolve`` and ``flowsolve --help`` do not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import exact, grids, solvers
    from .comparison import Comparison, compare
    from .denoiser import Denoiser, Prediction, clip, dynamic_threshold
    from .encoding import encode
    from .errors import BudgetExceeded, NonFiniteError
    from .models.digits import digits
    from .plans import Plan
    from .processes import CLD, EDM, VE, VP, Blurring, Level, Process, RectifiedFlow, SubVP, tables
    from .run import Solution, State
    from .sampling import plan, sample, solve

__version__ = "0.1.0"

__all__ = [
    "CLD",
    "EDM",
    "VE",
    "VP",
    "Blurring",
    "BudgetExceeded",
    "Comparison",
    "Denoiser",
    "Level",
    "NonFiniteError",
    "Plan",
    "Prediction",
    "Process",
    "RectifiedFlow",
    "Solution",
    "State",
    "SubVP",
    "clip",
    "compare",
    "digits",
    "dynamic_threshold",
    "encode",
    "exact",
    "grids",
    "plan",
    "sample",
    "solve",
    "solvers",
    "tables",
]

#: Where each public name lives; a module's own name stands for the module itself.
_HOMES = {
    "comparison": ("Comparison", "compare"),
    "denoiser": ("Denoiser", "Prediction", "clip", "dynamic_threshold"),
    "encoding": ("encode",),
    "errors": ("BudgetExceeded", "NonFiniteError"),
    "models.digits": ("digits",),
    "plans": ("Plan",),
    "processes": ("CLD", "EDM", "VE", "VP", "Blurring", "Level", "Process", "RectifiedFlow", "SubVP", "tables"),
    "run": ("Solution", "State"),
    "sampling": ("plan", "sample", "solve"),
    "exact": (),
    "grids": (),
    "solvers": (),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name == module:
            return importlib.import_module(f".{module}", __name__)
        if name in names:
            globals()[name] = value = getattr(importlib.import_module(f".{module}", __name__), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
