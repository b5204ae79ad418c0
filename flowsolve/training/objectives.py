r"""What a network is trained on.

:math:`L_\text{simple} = E\lVert\varepsilon-\varepsilon_\theta\rVert^2` (arXiv 2006.11239, eq. 14)
and its like for every prediction. Where A and R are matrices it is hybrid score matching with
velocities that are all noise (arXiv 2112.07068, section 3.2), the loss on pixels of blurring
diffusion (arXiv 2209.05557, section 4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from .. import network
from ..checked import checked
from ..denoiser import Denoiser
from ..errors import refused
from ..operators import Operator
from ..processes import Level
from ..typing import Float

#: loss(model, x0, eps, levels): x0 (batch, *shape), eps (batch, *state_shape), a level for each
#: sample; a number for each, (batch,).
Loss = Callable[
    [Denoiser, Float[Tensor, "n *shape"], Float[Tensor, "n *state"], Sequence[Level]],
    Float[Tensor, "n"],
]


def _each(operators: Sequence[Operator], x: Tensor) -> Tensor:
    """Operator i applied to sample i."""
    return x if all(o.one for o in operators) else operators[0].each(operators, x)


def _target(model: Denoiser, x0: Tensor, eps: Tensor, levels: Sequence[Level]) -> Tensor:
    """What the network should return for clean states ``x0``."""
    pairs = [model.parametrization.target(model.process, level) for level in levels]
    on_x0, on_eps = zip(*pairs, strict=True)
    if all(o.zero for o in on_x0):
        return _each(on_eps, eps)
    if all(o.zero for o in on_eps):
        return _each(on_x0, x0)
    return _each(on_x0, x0) + _each(on_eps, eps)


def _output(model: Denoiser, x: Tensor, levels: Sequence[Level]) -> Tensor:
    """The network's output, each sample at its own level (:meth:`Denoiser.evaluate` has one level
    for the batch)."""
    scales = [model.parametrization.input_scale(model.process, level) for level in levels]
    factors = [scale for scale in scales if scale is not None]
    if factors:
        x = _each(factors, x)
    dtype = model.net_dtype or x.dtype
    labels = [[model.label(level) for level in levels]]
    wide = dtype == torch.float64
    times = network.times_of(labels, model.time_dtype, wide, x.device)[0]
    out = network.answer(network.ask(model.net, x.to(dtype), times, model.conditioning), x)
    # Of a learned variance, L_simple is of the other half.
    return out if model.variance is None else out.chunk(2, dim=1)[0]


@checked
def simple(
    model: Denoiser,
    x0: Float[Tensor, "n *shape"],
    eps: Float[Tensor, "n *state"],
    levels: Sequence[Level],
    *,
    on: Literal["eps", "x0"] | None = None,
) -> Float[Tensor, "n"]:
    r""":math:`L_\text{simple}`: the mean square error over a sample's dimensions, every level
    weighing the same.

    Args:
        model: its ``correct_x0`` is left out: training is of the network itself. A network that
            predicts x0 may return the data alone, which are then all that is compared.
        x0: data, (batch, *shape).
        eps: standard normal noise, (batch, *state_shape).
        levels: the level of each sample.
        on: the quantity compared: None for the network's own output, whatever it predicts; "eps"
            for DDPM's loss, on ε whatever the network predicts; "x0" for that on x0. The three
            differ by a weight for each level.

    Returns:
        (batch,).

    Raises:
        ValueError: for another ``on``, noise of another shape, a prediction the process does not
            have, and a network that returns another shape than it should.

    Examples:
        >>> model = flowsolve.exact.Dirac(flowsolve.VP(), [0.5, -0.5])
        >>> x0, eps = torch.tensor([[0.5, -0.5]]).double(), torch.ones(1, 2).double()
        >>> flowsolve.training.simple(model, x0, eps, [model.process.level(0.5)]).item() < 1e-20
        True
    """
    shape = (len(levels), *(x0.shape[1:] if model.shape is None else model.shape))
    if x0.ndim < 2 or x0.shape != shape or not x0.is_floating_point() or not levels:
        raise ValueError(refused("x0", x0, f"floating-point numbers, {shape}, one for each level"))
    state = model.process.state(x0)
    if eps.shape != state.shape:
        raise ValueError(
            f"eps has shape {tuple(eps.shape)}; expected the states', {tuple(state.shape)}"
        )
    if not eps.is_floating_point():
        raise TypeError(refused("eps", eps, "floating-point numbers"))
    for name, x in (("x0", x0), ("eps", eps)):
        if x.is_meta or x.device != x0.device:
            raise ValueError(f"{name} is on {x.device}; expected both where the network is")
    x = _each([level.A for level in levels], state) + _each([level.R for level in levels], eps)
    out = _output(model, x, levels).to(x.dtype)
    alone = model.parametrization.of_data and out.shape == x0.shape
    target = x0 if alone else _target(model, state, eps, levels)
    if out.shape != target.shape:
        raise ValueError(
            f"the network returned shape {tuple(out.shape)}; "
            f"expected {tuple(target.shape)} (it predicts {model.parametrization.name})"
        )
    error = out - target
    if on is not None:
        if error.shape != x.shape:  # what else a state has is known, without error
            error = model.process.state(error)
        # Estimates are linear in the output, so their errors are the output's times a coefficient.
        plain = replace(model, correct_x0=None)
        error = _each([getattr(plain.linear(level), on)[1] for level in levels], error)
    return error.square().flatten(1).mean(1)
