"""Plans: a fixed-step solver on a grid, traced, bound to what a network predicts, and played."""

from .bind import bind
from .loop import Remains, Run, Watch, ask
from .plan import Plan, play
from .program import Arrive, Combine, Draw, Evaluate, Program
from .push import Push
from .tuned import Errors, Tuned, planned

__all__ = [
    "Arrive",
    "Combine",
    "Draw",
    "Errors",
    "Evaluate",
    "Plan",
    "Program",
    "Push",
    "Remains",
    "Run",
    "Tuned",
    "Watch",
    "ask",
    "bind",
    "planned",
    "play",
]
