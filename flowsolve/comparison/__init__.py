"""Solvers side by side: :mod:`~flowsolve.comparison.rows` lays out what is compared,
:mod:`~flowsolve.comparison.measure` measures, :mod:`~flowsolve.comparison.result` is what was
measured, :mod:`~flowsolve.comparison.figures` draws it."""

from .measure import DEFAULT_BUDGETS, DEFAULT_SOLVERS, Comparison, cases, compare
from .result import Measured

__all__ = ["DEFAULT_BUDGETS", "DEFAULT_SOLVERS", "Comparison", "Measured", "cases", "compare"]
