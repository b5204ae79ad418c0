"""A run: laid out before it has a model, then driven with one."""

from ..finite import NonFiniteError
from .integrate import integrate
from .layout import Layout, Span, layout
from .record import (
    BudgetExceeded,
    Rest,
    Solution,
    State,
    Statistics,
    progress_bar,
)

__all__ = [
    "BudgetExceeded",
    "Layout",
    "NonFiniteError",
    "Rest",
    "Solution",
    "Span",
    "State",
    "Statistics",
    "integrate",
    "layout",
    "progress_bar",
]
