"""CFG++, which is a scale that knows the step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .checked import Fraction, checked
from .planning import plan as make_plan
from .plans import Plan
from .processes import Level, Process


@checked
def cfg_pp(plan: Plan, process: Process, lam: Fraction) -> Callable[[Level], float]:
    """CFG++ (arXiv 2406.08070) as a scale for :func:`guided`: :math:`w = \\lambda\\bar\\sigma_s
    /(\\bar\\sigma_s - \\bar\\sigma_t)` for the step from s to t of a ``plan`` of ddim, with which,
    and no other solver, the model is then to be run, ``solver=plan``.

    It is ddim that renoises with the unconditional ε̂. As guidance it is of the steps and not of the
    model: with more of them it grows without bound, and it has no ODE.

    Args:
        plan: of "ddim", down to clean data or not.
        process: that of the model.
        lam: λ, from 0 to 1.

    Returns:
        w, a function of the level that a step begins on, for ``guided(..., scale=w)``.

    Raises:
        ValueError: for a plan of another solver.

    Examples:
        >>> model = flowsolve.digits(label=3)
        >>> plan = flowsolve.plan("ddim", model, nfe=4)
        >>> scale = flowsolve.cfg_pp(plan, model.process, lam=0.6)
        >>> guided = flowsolve.guided(model, {"label": None}, scale=scale)
        >>> flowsolve.sample(guided, solver=plan, n=2, seed=0).shape
        torch.Size([2, 1, 8, 8])
    """
    levels = plan.levels
    if plan != make_plan("ddim", process, grid=[level.t for level in levels]):
        raise ValueError(f"plan={plan!r}: CFG++ is defined for ddim alone; expected a plan of it")
    return CFGPP(tuple(level.t for level in levels), tuple(level.sigma for level in levels), lam)


@dataclass(frozen=True)
class CFGPP:
    """The scale that :func:`cfg_pp` makes, a function of the level that a step begins on."""

    times: tuple[float, ...]
    sigmas: tuple[float, ...]
    lam: float

    def __call__(self, level: Level) -> float:
        try:
            k = self.times[:-1].index(level.t)
        except ValueError:
            raise ValueError(
                f"scale: CFG++ is defined on the levels of its plan of ddim, and {level} is none "
                "of them; run the model with solver=plan, the plan that cfg_pp was given"
            ) from None
        s, t = self.sigmas[k : k + 2]
        return self.lam / (1.0 - t / s)
