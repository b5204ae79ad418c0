"""The boundary with the user's network: what it is lent, what it may give back, what is said when
it cannot take what it was lent."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from .checked import Count, Must
from .errors import warn
from .processes import Level, Process
from .typing import Float, Int

#: A network.
Net = Annotated[
    Callable[..., Any], Must(callable, "a network called as net(x, time, **conditioning)")
]
#: What it is told of the levels.
Times = Float[Tensor, "n"] | Int[Tensor, "n"]
#: The shape of one sample.
Shape = Annotated[
    tuple[Count, ...], Must(lambda v: len(v) > 0, "the shape of one sample, such as (3, 32, 32)")
]

#: Names for what the network is told about the noise level, besides the process's own convention.
TIMES: dict[str, Callable[[Level], float]] = {
    "t": lambda level: level.t,
    "sigma": lambda level: level.sigma,
    "quarter_log_sigma": lambda level: 0.25 * math.log(level.sigma),
    "logsnr": lambda level: 2.0 * level.lam,
}

#: dtypes of numbers that are not whole.
Floating = Annotated[
    torch.dtype, Must(lambda d: d.is_floating_point, "a floating-point torch.dtype")
]
#: dtypes that times may have: of whole numbers too, for embeddings.
Real = Annotated[
    torch.dtype,
    Must(lambda d: not d.is_complex and d != torch.bool, "a torch.dtype of real numbers"),
]

#: Modules that have been warned about.
_WARNED: WeakSet[nn.Module] = WeakSet()

#: What torch says when dtypes or devices do not fit.
_DTYPE = ("same dtype", "scalar type", "should be the same", "not implemented for")
_DEVICE = ("same device", "device type", "meta tensor", "on device meta", "meta device")


def parameter_of(net: Any) -> Tensor | None:
    """The network's first floating-point parameter, or buffer, that is somewhere; None for none.

    Parameters on the meta device are elsewhere: who offloaded them brings them when they are used.
    """
    if not isinstance(net, nn.Module):
        return None
    for tensors in (net.parameters(), net.buffers()):
        for tensor in tensors:
            if tensor.is_floating_point() and tensor.device.type != "meta":
                return tensor
    return None


def warn_of_training(net: Any) -> None:
    """Warn, once for a module, that it is in training mode."""
    if isinstance(net, nn.Module) and net.training and net not in _WARNED:
        _WARNED.add(net)
        warn(
            f"net: the network ({type(net).__name__}) is in training mode, in which dropout and "
            "batch normalization change samples from call to call; call net.eval() first"
        )


def times_of(
    labels: Sequence[Sequence[float]],
    dtype: torch.dtype | None,
    wide: bool,
    device: torch.device,
) -> Tensor:
    """What a network is told of its levels, (evaluations, samples or 1), in ``dtype``.

    By default integers, as a function of the level may give for embeddings, stay integers; other
    numbers are float32, or float64 if ``wide``: in half precision neighbouring levels would be
    one.
    """
    if dtype is None and all(type(label) is int for row in labels for label in row):
        dtype = torch.int64
    if dtype is not None and not dtype.is_floating_point:
        labels = [[round(label) for label in row] for row in labels]
    default = torch.float64 if wide else torch.float32
    try:
        return torch.tensor(labels, dtype=dtype or default, device=device)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"time: it gave {labels[0][0]!r} for a level; expected a number") from None


def ask(net: Callable[..., Any], x: Tensor, times: Tensor, conditioning: Mapping[str, Any]) -> Any:
    """What the network returns for ``x``, which it may do with as it likes.

    Raises:
        TypeError, ValueError: from torch's own error, if dtypes or devices do not fit: what the
            network was given, and which argument changes it.
    """
    try:
        return net(x, times, **conditioning)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        text = str(error)
        if any(sign in text for sign in _DEVICE):
            raise ValueError(
                f"the network was given a state on {x.device} and could not use it ({_line(text)})"
                "; give device=, or start= there, if a wrapper hides where it is"
            ) from error
        if any(sign in text for sign in _DTYPE):
            raise TypeError(
                f"the network was given a state in {_name(x)} and times in {_name(times)}, and "
                f"could not use them ({_line(text)}); give Denoiser(dtype=...) for the state, "
                "time_dtype=... for the times, or integers, as an embedding takes, by "
                "time=lambda level: round(level.t)"
            ) from error
        raise


def _name(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def _line(text: str) -> str:
    return text.strip().splitlines()[0][:160]


def alike(out: Any, x: Tensor) -> bool:
    """Whether ``out`` is a tensor as ``x`` is one, as nearly all answers are."""
    return (
        isinstance(out, Tensor)
        and out.dtype is x.dtype
        and out.shape == x.shape
        and out.device == x.device
    )


def answer(out: Any, x: Tensor) -> Tensor:
    """The tensor in what a network returned for ``x``: itself, its ``.sample``, the one in a tuple.

    Raises:
        TypeError: if there is none, of real floating-point numbers.
        ValueError: if it is on another device.
    """
    if isinstance(out, (tuple, list)) and len(out) == 1:
        out = out[0]
    if not isinstance(out, Tensor):
        out_sample = getattr(out, "sample", None)
        if not isinstance(out_sample, Tensor):
            raise TypeError(
                f"the network returned {type(out).__name__}; expected a tensor of shape "
                f"{tuple(x.shape)}, an object with .sample, or a tuple of one (wrap it)"
            )
        out = out_sample
    if not out.is_floating_point():
        raise TypeError(
            f"the network returned a tensor of {out.dtype}; expected real floating-point numbers"
        )
    if out.device != x.device:
        raise ValueError(
            f"the network returned a tensor on {out.device} for a state on {x.device}; give "
            "device=, or start= there: both are expected in one place"
        )
    return out


def in_shape(
    out: Tensor, x: Tensor, process: Process, of_data: bool, variance: str | None
) -> tuple[Tensor, Tensor | None]:
    """A network's output for states ``x`` in their shape, and the v of a learned variance.

    Raises:
        ValueError: if it has another shape.
    """
    spread, wanted = None, "the same shape"
    if variance is not None:
        wanted = f"twice its channels, as variance={variance!r} says"
        if out.shape == (len(x), 2 * x.shape[1], *x.shape[2:]):
            out, spread = out.chunk(2, dim=1)
    data = process.data(x).shape
    if of_data and out.shape == data != x.shape:
        out = process.state(out)  # of clean data a network need not predict what is known
    if out.shape != x.shape or (spread is None) != (variance is None):
        doubled = variance is None and out.ndim > 1 and out.shape[1] == 2 * x.shape[1]
        raise ValueError(
            f"the network returned shape {tuple(out.shape)} for a state of shape "
            f"{tuple(x.shape)}; expected {wanted}"
            + ' (a learned variance? variance="learned_range" says so)' * doubled
            + ' (the shape of the data: with predicts="x0" the rest of the state is known)'
            * (out.shape == data != x.shape)
        )
    return out, spread


def check_state(
    name: str,
    x: Any,
    process: Process,
    shape: tuple[int, ...] | None,
    device: torch.device | None,
    data: bool = False,
) -> None:
    """Raise TypeError or ValueError, naming it ``name``, unless ``x`` is floating-point of shape
    (n, *shape), where the network is; of a shape of None, any that the process has for its states,
    or for ``data``."""
    expected = f"(n, {', '.join(map(str, shape))})" if shape is not None else "(n, *shape)"
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{name} is {kind}; expected a floating-point tensor of shape {expected}")
    if x.layout is not torch.strided:
        raise TypeError(
            f"{name} is a tensor of {x.layout}; expected a dense one: {name}.to_dense()"
        )
    if x.ndim >= 2 and shape is None:
        inner = tuple((x if data else process.data(x)).shape[1:])
        shape = inner if data else process.state_shape(inner)
    if shape is None or tuple(x.shape[1:]) != shape or x.numel() == 0:
        raise ValueError(f"{name} has shape {tuple(x.shape)}; expected {expected} with n >= 1")
    if x.is_meta or (device is not None and x.device != device):
        raise ValueError(f"{name} is on {x.device}, the network on {device}; move one to the other")


def check_like(said: str, value: Any, x: Tensor) -> None:
    """Raise ValueError, beginning with what is ``said``, unless ``value`` is real numbers of the
    shape of ``x``."""
    if not isinstance(value, Tensor):
        what = type(value).__name__
    elif value.shape == x.shape and value.is_floating_point() and not value.is_meta:
        return
    else:
        what = f"shape {tuple(value.shape)}, {value.dtype}, on {value.device}"
    raise ValueError(f"{said} {what}; expected a floating-point tensor of shape {tuple(x.shape)}")
