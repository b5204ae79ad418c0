"""Plans: a fixed-step solver on a grid, traced, bound to what a network predicts, and played."""

from .loop import Run, Watch, ask
from .plan import Plan, play
from .program import Arrive, Combine, Draw, Evaluate, Program
from .push import Push

__all__ = [
    "Arrive",
    "Combine",
    "Draw",
    "Evaluate",
    "Plan",
    "Program",
    "Push",
    "Run",
    "Watch",
    "ask",
    "play",
]
