"""Forward processes and their noise levels."""

from . import tables
from .base import FLOW_TIME, LAMBDA, SIGMA, TIME, VARIABLES, Level, Levels, Process, Variable
from .blurring import Blurring
from .langevin import CLD
from .matrix import MatrixProcess
from .scalar import EDM, VE, VP, Cosine, Discrete, RectifiedFlow, ScalarProcess, SubVP

__all__ = [
    "CLD",
    "EDM",
    "FLOW_TIME",
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
    "Process",
    "RectifiedFlow",
    "ScalarProcess",
    "SubVP",
    "Variable",
    "tables",
]
