"""Forward processes and their noise levels."""

import importlib
import pkgutil

from . import tables
from .base import KNOWN, Process, examples
from .blurring import Blurring
from .discrete import Discrete
from .flow import RectifiedFlow, Spread, TrigFlow
from .langevin import CLD
from .levels import Level, Levels, Number, numbers
from .matrix import MatrixProcess
from .scalar import ScalarProcess
from .sigma import EDM, VE
from .variables import FLOW_TIME, LAMBDA, SIGMA, TIME, VARIABLES, Variable
from .vp import VP, Cosine, SubVP

# A process in a file of its own is known, whether it has a name here or not.
for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")

__all__ = [
    "CLD",
    "EDM",
    "FLOW_TIME",
    "KNOWN",
    "LAMBDA",
    "SIGMA",
    "TIME",
    "VARIABLES",
    "VE",
    "VP",
    "Blurring",
    "Cosine",
    "Discrete",
    "Level",
    "Levels",
    "MatrixProcess",
    "Number",
    "Process",
    "RectifiedFlow",
    "ScalarProcess",
    "Spread",
    "SubVP",
    "TrigFlow",
    "Variable",
    "examples",
    "numbers",
    "tables",
]
