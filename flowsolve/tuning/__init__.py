"""Plans fitted to a model."""

from .figure import plot
from .tune import tune

__all__ = ["plot", "tune"]
