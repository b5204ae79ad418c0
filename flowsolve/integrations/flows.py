"""torchdiffeq's ``odeint`` for networks of flow matching."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Annotated, Any

import torch
from torch import Tensor

from ..checked import Count, Positive, checked
from ..coordinates import FLOW
from ..denoiser import Denoiser
from ..errors import refused
from ..finite import check_finite
from ..grids import Explicit
from ..network import answer, check_state
from ..processes import RectifiedFlow
from ..readers import Later
from ..sampling import solve
from ..solvers import DDIM, Adaptive, RungeKutta, Solver, TorchDiffEq, find_solver
from ..solvers.bridges import Bridge
from ..solvers.runge_kutta import HEUN, MIDPOINT, Tableau
from ..typing import Float
from .clients import numbers

#: torchdiffeq's fixed-step methods, in the flow's own time; its "rk4" is the 3/8 rule.
FIXED: dict[str, Solver] = {
    "euler": DDIM(coordinates=FLOW),
    "midpoint": RungeKutta(MIDPOINT, FLOW),
    "heun2": RungeKutta(HEUN, FLOW),
    "heun3": RungeKutta(
        Tableau(3, (0, 1 / 3, 2 / 3), ((), (1 / 3,), (0, 2 / 3)), (1 / 4, 0, 3 / 4)), FLOW
    ),
    "rk4": RungeKutta(
        Tableau(
            4,
            (0, 1 / 3, 2 / 3, 1),
            ((), (1 / 3,), (-1 / 3, 1), (1, -1, 1)),
            (1 / 8, 3 / 8, 3 / 8, 1 / 8),
        ),
        FLOW,
    ),
}
#: Its adaptive ones.
CONTROLLED = [name for name, (_, calls) in TorchDiffEq.methods().items() if calls is None]


@checked
def odeint(
    func: Callable[[Float[Tensor, ""], Float[Tensor, "n *shape"]], Float[Tensor, "n *shape"]],
    y0: Float[Tensor, "n *shape"],
    t: Annotated[Any, Later("checked.read")],
    *,
    rtol: Positive | None = None,
    atol: Positive | None = None,
    method: str | None = None,
    options: Mapping[str, Any] | None = None,
    nfe: Count | None = None,
) -> Float[Tensor, "times n *shape"]:
    """torchdiffeq's ``odeint``, for velocities that take noise at t = 0 to data at t = 1::

        from flowsolve.integrations import odeint    # in the place of torchdiffeq's
        y = odeint(velocity, noise, torch.linspace(0, 1, 9), method="vpc2")[-1]

    ``func(t, y)`` is the velocity dy/dt = data − noise at t, a number in a tensor, as F5-TTS,
    flow_matching and torchcfm have it. torchdiffeq's names mean its methods, with one difference:
    a step onto data, t = 1, asks the network where the step begins and not at its end, so that
    there methods of several stages spend one evaluation. Flowsolve's names work as well, and are
    what is gained: "vpc2" or "unipc3" spend one evaluation a step.

    Args:
        func: the network, perhaps with guidance.
        y0: the noise, (n, *shape), the state at t[0].
        t: times between which to step, rising, in [0, 1].
        rtol, atol: of adaptive methods, by default 1e-7 and 1e-9 as in torchdiffeq.
        method: a name of torchdiffeq's or flowsolve's, by default "dopri5".
        options: ``{"step_size": h}``, for steps of that length between two times.
        nfe: evaluations in all, of a flowsolve method between two times, on levels of its own
            choice; by default it steps between the ``t``.

    Returns:
        The states at ``t``, (len(t), n, *shape), in the dtype of ``y0``.

    Raises:
        TypeError, ValueError: for arguments that do not fit.

    Examples:
        >>> from flowsolve.integrations import odeint
        >>> target = torch.tensor([[2.0, -1.0]])
        >>> velocity = lambda t, y: (target - y) / (1.0 - t)  # to one point
        >>> odeint(velocity, torch.zeros(1, 2), torch.linspace(0, 1, 5), method="euler")[-1]
        tensor([[ 2., -1.]])
    """
    times = numbers("t", t)
    fine = all(math.isfinite(v) and -1e-6 <= v <= 1.0 + 1e-6 for v in times)
    if len(times) < 2 or not fine or any(b <= a for a, b in pairwise(times)):
        raise ValueError(refused("t", times, "two rising times or more, in [0, 1]: noise to data"))
    name = "dopri5" if method is None else method
    solver = _solver(name, rtol, atol)
    levels = [min(max(1.0 - v, 0.0), 1.0) for v in times]
    steps = _refined(levels, options)
    if nfe is not None and (len(times) > 2 or options or solver.evaluations is None):
        raise ValueError(
            f"nfe={nfe}: expected two times, a fixed-step method and no options, since steps go "
            "between the times that are given"
        )

    def net(x: Tensor, u: Tensor) -> Tensor:
        return -answer(func(1.0 - u[0], x), x)

    check_state("y0", y0, RectifiedFlow(), None, None)
    model = Denoiser(net, RectifiedFlow(), "velocity", tuple(y0.shape[1:]), dtype=y0.dtype)
    check_finite("y0", y0)
    if nfe is not None:
        span = (levels[0], None if levels[1] == 0.0 else levels[1])
        how: dict[str, Any] = {"nfe": nfe, "span": span}
    else:
        how = {"grid": Explicit(tuple(steps))}
        if solver.evaluations == 1:  # and no more to begin
            how["nfe"] = len(steps) - 1
    run = solve(model, solver=solver if nfe is None else name, start=y0, keep="path", **how)
    path = run.path
    assert path is not None
    if nfe is not None:
        return torch.stack([path[0], path[-1]]).to(y0.dtype)
    found = {level: k for k, level in enumerate(steps)}
    return path[[found[level] for level in levels]].to(y0.dtype)


def _solver(name: str, rtol: float | None, atol: float | None) -> Solver:
    """The method of that name, torchdiffeq's first."""
    if name in CONTROLLED:
        return TorchDiffEq(
            name,
            rtol=1e-7 if rtol is None else rtol,
            atol=1e-9 if atol is None else atol,
            coordinates=FLOW,
        )
    given = {k: v for k, v in (("rtol", rtol), ("atol", atol)) if v is not None}
    try:
        solver = FIXED[name] if name in FIXED else find_solver(name)[0]
    except ValueError as error:
        raise ValueError(str(error).replace("solver=", "method=", 1)) from None
    if given and not isinstance(solver, (Bridge, Adaptive)):
        raise ValueError(
            f"{', '.join(given)}: {name!r} takes the steps it is given; expected an adaptive method"
            f", such as 'dopri5', or no {' and '.join(given)}"
        )
    return find_solver(solver, given)[0]


def _refined(levels: list[float], options: Mapping[str, Any] | None) -> list[float]:
    """The levels, with those between them that a step size asks for."""
    unknown = [key for key in options or {} if key != "step_size"]
    if unknown:
        raise TypeError(f"options={dict(options or {})!r}: expected step_size alone")
    if not options:
        return levels
    size = float(options["step_size"])
    if not size >= 1e-5:
        raise ValueError(f"step_size={size!r}: expected a number of at least 1e-5")
    result = levels[:1]
    for s, u in pairwise(levels):
        n = max(1, math.ceil((s - u) / size - 1e-9))
        result += [s + (u - s) * k / n for k in range(1, n)] + [u]
    return result
