"""Plans: a fixed-step solver on a grid, traced, bound to what a network predicts, and played."""

from .loop import Watch, ask, play
from .plan import Plan
from .program import Arrive, Combine, Draw, Evaluate, Program

__all__ = ["Arrive", "Combine", "Draw", "Evaluate", "Plan", "Program", "Watch", "ask", "play"]
