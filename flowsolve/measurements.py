r"""Linear measurements of the data, :math:`y = Hx_0 + n` with :math:`n\sim N(0, \sigma_y^2)`.

H is a matrix on flattened samples, a mask of the entries that are seen, or a linear function. Only
its values are ever asked for: its transpose is what autograd makes of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor

from .checked import Must
from .denoiser import Denoiser
from .errors import Unsuited, refused, shown
from .finite import check_finite
from .noise import normal
from .readers import Later
from .typing import Bool, Float

#: What H may be.
Map = Annotated[
    Float[Tensor, "m size"]
    | Bool[Tensor, "*shape"]
    | Callable[[Float[Tensor, "n *shape"]], Float[Tensor, "n *m"]],
    Later("measurement_of"),
]
#: The standard deviation of a measurement's noise.
NoiseLevel = Annotated[
    float,
    Must(
        lambda v: v > 0.0 and 0.0 < v * v < math.inf,
        "a positive number with a square (without noise the equations for a sample are singular "
        "where it is nearly clean; a thousandth of the data's spread is as good as none)",
    ),
]
#: How far a function may be from linear, of its values: rounding in half precision is.
_LINEAR = 1e-2


@dataclass(frozen=True, eq=False)
class Matrix:
    """H of shape (m, D), on flattened samples."""

    rows: Float[Tensor, "m size"]

    def __call__(self, x0: Float[Tensor, "n *shape"]) -> Float[Tensor, "n m"]:
        rows = self.rows.to(x0.device)
        return x0.flatten(1).to(rows.dtype) @ rows.T


@dataclass(frozen=True, eq=False)
class Entries:
    """The entries of flattened samples at ``places``: what a mask lets through."""

    places: Tensor

    def __call__(self, x0: Float[Tensor, "n *shape"]) -> Float[Tensor, "n m"]:
        return x0.flatten(1).index_select(1, self.places.to(x0.device))


class Measured(NamedTuple):
    """H as a function, ``by``, and y in float64, with a row for ``each`` sample or one for all."""

    by: Callable[[Tensor], Tensor]
    y: Float[Tensor, "rows *m"]
    each: bool


def measurement_of(model: Denoiser, y: Any, H: Any) -> Measured:
    """What was measured, on the model's device.

    Raises:
        TypeError, ValueError: for what does not fit, and for a function that is not linear or not
            of each sample by itself.
        Unsuited: for a process whose A and R are matrices.
    """
    if not model.process.scalar:
        raise Unsuited(
            f"A and R of {model.process!r} are matrices, and the covariance (R²/A) ∂x̂0/∂x of x0 is "
            "derived for numbers",
            "a process of numbers, such as flowsolve.VP()",
        )
    if model.shape is None:
        raise ValueError("model: its shape is None; expected Denoiser(shape=...)")
    if not isinstance(y, Tensor) or not y.is_floating_point() or y.layout is not torch.strided:
        raise TypeError(refused("y", y, "a floating-point tensor, (*m) or (n, *m)"))
    if y.is_meta or not bool(torch.isfinite(y).all()):
        raise ValueError(refused("y", y, "finite numbers"))
    device = model.device or y.device
    with torch.inference_mode(False), torch.enable_grad():  # which are taken through them
        measure = _read(H, model.shape, device)
        inner = _probed(measure, model, device)
        y = y.detach().to(device, torch.float64).clone()
    if tuple(y.shape) == inner:
        return Measured(measure, y[None], False)
    if y.ndim == len(inner) + 1 and tuple(y.shape[1:]) == inner and len(y):
        return Measured(measure, y, True)
    shape = ", ".join(map(str, inner))
    raise ValueError(
        f"y has shape {tuple(y.shape)}; expected ({shape}), or (n, {shape}) with one for each "
        "sample: H maps a sample to that"
    )


def _read(H: Any, shape: tuple[int, ...], device: torch.device) -> Callable[[Tensor], Tensor]:
    size = torch.Size(shape).numel()
    if not isinstance(H, Tensor):
        if not callable(H):
            raise TypeError(refused("H", H, f"a mask, a tensor (m, {size}), or a linear function"))
        function: Any = H
        return function
    if H.is_meta or H.layout is not torch.strided:
        raise TypeError(refused("H", H, "a dense tensor with values"))
    if H.dtype == torch.bool:
        if tuple(H.shape) != shape or not bool(H.any()):
            raise ValueError(refused("H", H, f"a mask of shape {shape}, True somewhere"))
        return Entries(H.detach().flatten().nonzero().flatten().to(device))
    if not H.is_floating_point():
        raise TypeError(refused("H", H, "a mask of truth values or a floating-point matrix"))
    if H.ndim != 2 or H.shape[1] != size or not len(H):
        raise ValueError(refused("H", H, f"(m, {size}), acting on flattened samples"))
    check_finite("H", H)
    return Matrix(H.detach().to(device, torch.float64).clone())


def _probed(
    measure: Callable[[Tensor], Tensor], model: Denoiser, device: torch.device
) -> tuple[int, ...]:
    """The shape of a sample's measurement, from random samples a, b and a − 2b."""
    a, b = normal(0, range(2), 0, model.data_shape, model.state_dtype, device)
    several, alone = (_asked(measure, x) for x in (torch.stack([a, b, a - 2.0 * b]), b[None]))
    if not several.numel():
        raise ValueError(f"H returned shape {tuple(several.shape)}: expected some numbers")
    size = several.abs().max() + torch.finfo(several.dtype).tiny
    if bool(((several[2] - several[0] + 2.0 * several[1]).abs() > _LINEAR * size).any()):
        raise ValueError(
            "H is not linear, H(a − 2b) is not H(a) − 2 H(b): expected H(x0) without a constant "
            "(subtract it from y) and without anything else than sums and products by numbers"
        )
    if alone.shape[1:] != several.shape[1:] or bool(
        ((alone[0] - several[1]).abs() > _LINEAR * size).any()
    ):
        raise ValueError("H of a sample depends on the others of the batch; expected it by itself")
    return tuple(several.shape[1:])


def _asked(measure: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    out = measure(x.clone().requires_grad_())
    if not isinstance(out, Tensor) or not out.is_floating_point() or out.is_meta:
        raise TypeError(
            f"H returned {shown(out)}; expected a floating-point tensor with a row for each sample"
        )
    if out.ndim < 2 or len(out) != len(x):
        raise ValueError(
            f"H returned shape {tuple(out.shape)} for {len(x)} samples; expected ({len(x)}, ...)"
        )
    if not out.requires_grad:
        raise ValueError(
            "H has no gradient (detached, computed under no_grad, or constant); expected a "
            "function of torch's operations, whose transpose autograd can make"
        )
    if not bool(torch.isfinite(out).all()):
        raise ValueError("H returned NaN or Inf for a sample of noise; expected finite numbers")
    return out.detach()
