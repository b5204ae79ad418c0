r"""Grids: decreasing sequences of levels from the start of a run to its end.

A grid is a frozen object; ``grid.levels(process, n, start, end)`` gives n + 1 levels, n steps. A
run that ends on clean data makes its last evaluation at the last noisy level, so named grids place
n noisy levels and put the clean one after them. Two kinds need no care about it: an explicit
sequence, used as given, and grids in a time that reaches zero noise.

Table indices that are rounded to one are moved apart. Other levels that coincide are merged: a zero
step changes nothing and costs an evaluation.
"""

import importlib
import pkgutil

from .base import Grid
from .explicit import Explicit
from .in_sigma import LARGEST_SIGMA, Karras, Logistic, LogSNR, Shifted, Sigma, VariableGrid
from .in_time import Beta, DPMLinspace, Leading, Linspace, Quadratic, TimeGrid, Trailing, Uniform
from .lookup import default_grid, find_grid
from .shift import Shift

# A grid in a file of its own is known, whether it has a name here or not.
for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")

#: The named grids, by name.
GRIDS = Grid.known

__all__ = [
    "GRIDS",
    "LARGEST_SIGMA",
    "Beta",
    "DPMLinspace",
    "Explicit",
    "Grid",
    "Karras",
    "Leading",
    "Linspace",
    "LogSNR",
    "Logistic",
    "Quadratic",
    "Shift",
    "Shifted",
    "Sigma",
    "TimeGrid",
    "Trailing",
    "Uniform",
    "VariableGrid",
    "default_grid",
    "find_grid",
]
