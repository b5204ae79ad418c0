"""Forward processes and their noise levels."""

from . import tables
from .base import FLOW_TIME, LAMBDA, SIGMA, TIME, VARIABLES, Level, Levels, Process, Variable
from .scalar import EDM, VE, VP, Cosine, Discrete, RectifiedFlow, ScalarProcess, SubVP

__all__ = [
    "EDM",
    "FLOW_TIME",
    "LAMBDA",
    "SIGMA",
    "TIME",
    "VARIABLES",
    "VE",
    "VP",
    "Cosine",
    "Discrete",
    "Level",
    "Levels",
    "Process",
    "RectifiedFlow",
    "ScalarProcess",
    "SubVP",
    "Variable",
    "tables",
]
