r"""A network, its process and what it predicts: called at (x, level) it gives the prediction (x̂0, ε̂).

Every parametrisation in use is *linear* in the state and the network's output o:

===========  ========================================  =======================================
predicts     x̂0                                        ε̂
===========  ========================================  =======================================
"eps"        A⁻¹(x − R o)                              o
"x0"         o                                         R⁻¹(x − A o)
"v"          (A x − R o)/(A² + R²)                     (R x + A o)/(A² + R²)
"velocity"   (x − R o)/(A + R)                         (x + A o)/(A + R)
"score"      A⁻¹(x + R² o)                             −R o
"F"          c_skip x + c_out o                        R⁻¹(x − A x̂0)
===========  ========================================  =======================================

"v" is Salimans and Ho's (arXiv 2202.00512), "velocity" the flow-matching target ε − x0 (dx/dt of a rectified flow),
"F" the preconditioned network of EDM (arXiv 2206.00364, table 1), which also scales the network's input. Solvers use
these coefficients, not tensors of x̂0 and ε̂, so a conversion costs nothing and cancels in float64 rather than float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .errors import unknown
from .operators import Operator, Rows, Scalar, combine, multiplication
from .processes import Level, Process

Pair = tuple[Operator, Operator]


class Prediction(NamedTuple):
    """The two estimates at one state, x = A x̂0 + R ε̂; each of shape (batch, *shape)."""

    x0: Tensor
    eps: Tensor


class Linear(NamedTuple):
    """A prediction as coefficients: x̂0 = x0[0] x + x0[1] o, ε̂ = eps[0] x + eps[1] o."""

    x0: Pair
    eps: Pair

    def mix(self, weights: tuple[float, float]) -> Pair:
        """Coefficients of w₀x̂0 + w₁ε̂."""
        a, b = weights
        if b == 0.0:
            return self.x0[0] * a, self.x0[1] * a
        if a == 0.0:
            return self.eps[0] * b, self.eps[1] * b
        return self.x0[0] * a + self.eps[0] * b, self.x0[1] * a + self.eps[1] * b


def _eps(level: Level, sigma_data: float) -> Linear:
    one, inverse = level.A.eye(), level.A.inverse()
    return Linear((inverse, -(inverse @ level.R)), (one * 0.0, one))


def _x0(level: Level, sigma_data: float) -> Linear:
    one, inverse = level.R.eye(), level.R.inverse()
    return Linear((one * 0.0, one), (inverse, -(inverse @ level.A)))


def _v(level: Level, sigma_data: float) -> Linear:
    a, r = numbers(level)
    n = a * a + r * r
    return _scalars((a / n, -r / n), (r / n, a / n))


def _velocity(level: Level, sigma_data: float) -> Linear:
    a, r = numbers(level)
    return _scalars((1 / (a + r), -r / (a + r)), (1 / (a + r), a / (a + r)))


def _score(level: Level, sigma_data: float) -> Linear:
    a, r = numbers(level)
    return _scalars((1 / a, r * r / a), (0.0 * r, -r))


def _F(level: Level, sigma_data: float) -> Linear:
    a, r = numbers(level)
    n = r * r + (a * sigma_data) ** 2
    # ε̂ = (x − A x̂0)/R with the division carried out, so that nothing cancels as R → 0.
    return _scalars((a * sigma_data**2 / n, r * sigma_data / n**0.5), (r / n, -a * sigma_data / n**0.5))


def _scalars(x0: tuple[Any, Any], eps: tuple[Any, Any]) -> Linear:
    return Linear((multiplication(x0[0]), multiplication(x0[1])), (multiplication(eps[0]), multiplication(eps[1])))


def numbers(level: Level) -> tuple[Any, Any]:
    """(A, R) of a scalar level: two numbers, or two arrays (n,) for samples on levels of their own.

    Raises ValueError for other operators.
    """
    if not (isinstance(level.A, (Scalar, Rows)) and isinstance(level.R, (Scalar, Rows))):
        raise ValueError(f'defined for scalar processes only, got {level}; a matrix process takes predicts="eps" or "x0"')
    return level.A.value, level.R.value


PREDICTIONS: dict[str, Callable[[Level, float], Linear]] = {
    "eps": _eps,
    "x0": _x0,
    "v": _v,
    "velocity": _velocity,
    "score": _score,
    "F": _F,
}

#: Names for what the network is told about the noise level, besides the process's own convention.
TIMES: dict[str, Callable[[Level], float]] = {
    "t": lambda level: level.t,
    "sigma": lambda level: level.sigma,
    "quarter_log_sigma": lambda level: 0.25 * math.log(level.sigma),
    "logsnr": lambda level: 2.0 * level.lam,
}


@dataclass(frozen=True, eq=False)
class Denoiser:
    """A trained network as every solver sees it.

    Args:
        net: called as ``net(x, time, **conditioning)``: x a state, (batch, *state_shape), time of shape (batch,); returns a
            tensor of x's shape, or of (batch, *shape) if that is less and it predicts x0.
        process: the forward process it was trained on.
        predicts: "eps", "x0", "v", "velocity", "score" or "F" (see the module's table); the first two where A and R are matrices.
        shape: the shape of one sample of the data, without the batch dimension.
        time: what the network is told, instead of the process's convention (``process.label``): "t", "sigma",
            "quarter_log_sigma", "logsnr", or a function of the :class:`~flowsolve.processes.Level`.
        sigma_data: EDM's σ_data, for ``predicts="F"``.
        dtype: the network's dtype; by default that of its first floating parameter, else the state's.
        correct_x0: a function (x̂0, level) → x̂0 applied to every estimate, such as :func:`clip` or
            :func:`dynamic_threshold`; ε̂ is derived again so that x = A x̂0 + R ε̂ still holds.
        conditioning: keyword arguments for the network; see :meth:`given`.

    Raises:
        TypeError, ValueError: at construction, for arguments that do not fit together.
    """

    net: Callable[..., Any]
    process: Process
    predicts: str = "eps"
    shape: tuple[int, ...] = ()
    _: KW_ONLY
    time: str | Callable[[Level], float] | None = None
    sigma_data: float = 0.5
    dtype: torch.dtype | None = None
    correct_x0: Callable[[Tensor, Level], Tensor] | None = None
    conditioning: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not callable(self.net):
            raise TypeError(f"net={self.net!r} is not callable; expected a network called as net(x, time, **conditioning)")
        if not isinstance(self.process, Process):
            raise TypeError(f"process={self.process!r} is not a process; expected flowsolve.VP(), flowsolve.EDM(), ...")
        if self.predicts not in PREDICTIONS:
            raise ValueError(unknown("predicts", self.predicts, PREDICTIONS))
        if not self.process.scalar and self.predicts not in ("eps", "x0"):
            raise ValueError(f'predicts={self.predicts!r}: A and R of {self.process!r} are matrices; expected "eps" or "x0"')
        if isinstance(self.time, str) and self.time not in TIMES:
            raise ValueError(unknown("time", self.time, TIMES))
        if not self.sigma_data > 0:
            raise ValueError(f"sigma_data={self.sigma_data!r}: expected a positive number")
        try:
            shape = tuple(int(k) for k in self.shape)
        except TypeError:
            raise TypeError(f"shape={self.shape!r}: expected a tuple such as (3, 32, 32)") from None
        if not shape or any(k < 1 for k in shape):
            raise ValueError(f"shape={self.shape!r}: expected the shape of one sample, such as (3, 32, 32)")
        object.__setattr__(self, "shape", shape)
        self.process.state_shape(shape)
        parameter = self._parameter()
        if self.dtype is None and parameter is not None:
            object.__setattr__(self, "dtype", parameter.dtype)

    def _parameter(self) -> Tensor | None:
        if not isinstance(self.net, torch.nn.Module):
            return None
        tensors = (*self.net.parameters(), *self.net.buffers())
        return next((p for p in tensors if p.is_floating_point()), None)

    @property
    def device(self) -> torch.device | None:
        """The device of the network's parameters, None if it has none."""
        parameter = self._parameter()
        return None if parameter is None else parameter.device

    @property
    def state_shape(self) -> tuple[int, ...]:
        """The shape of one sample's state: ``shape``, unless the process has more than the data in it."""
        return self.process.state_shape(self.shape)

    @property
    def state_dtype(self) -> torch.dtype:
        """The dtype of a state started from noise: float32, or float64 for a float64 network and where A and R are matrices."""
        return torch.float64 if self.dtype == torch.float64 or not self.process.scalar else torch.float32

    def given(self, **conditioning: Any) -> Denoiser:
        """The same model with keyword arguments for its network, e.g. ``model.given(y=labels)``.

        A tensor whose first dimension is the number of samples is split with the batch.
        """
        return replace(self, conditioning={**self.conditioning, **conditioning})

    def rows(self, rows: slice | Tensor, n: int) -> Denoiser:
        """The model for some of n samples, a slice of them or their indices: per-sample conditioning tensors are cut to them."""
        if not self.conditioning or (isinstance(rows, slice) and rows == slice(0, n)):
            return self
        return self.given(
            **{
                key: value[rows] if isinstance(value, Tensor) and value.ndim and len(value) == n else value
                for key, value in self.conditioning.items()
            }
        )

    def linear(self, level: Level) -> Linear:
        """The coefficients of (x̂0, ε̂) in (x, o) at ``level``, o being what :meth:`evaluate` returns.

        Raises:
            ValueError: at a level where the prediction determines nothing, such as "eps" at pure noise.
        """
        name = "x0" if self.correct_x0 is not None else self.predicts
        return self._linear(name, level)

    def _linear(self, name: str, level: Level) -> Linear:
        if level.pure_noise and name in ("eps", "score"):
            raise ValueError(
                f'predicts="{name}" says nothing about x0 at pure noise, {level}; start from a quieter level '
                "(span=(t, None) with t below the process's t_max) or use a network that predicts x0, v or velocity"
            )
        if level.clean:
            raise ValueError(f"the network is not defined on clean data, {level}; expected a level with noise, such as t_min")
        return PREDICTIONS[name](level, self.sigma_data)

    def label(self, level: Level) -> float:
        """What the network is told about ``level``."""
        return (self.process.label if self.time is None else TIMES[self.time] if isinstance(self.time, str) else self.time)(level)

    def times(self, levels: Sequence[Level], x: Tensor) -> tuple[Tensor, ...]:
        """The time argument for each of ``levels`` (or :class:`~flowsolve.processes.Levels`) and a batch like ``x``: tensors (batch,).

        A half-precision time would merge neighbouring levels, so it is float32 even for a half-precision network.
        """
        dtype = torch.float64 if (self.dtype or x.dtype) == torch.float64 else torch.float32
        labels = torch.tensor([[self.label(each) for each in level.each] for level in levels], dtype=dtype, device=x.device)
        return labels.expand(-1, len(x)).contiguous().unbind()

    def evaluate(self, x: Tensor, level: Level, times: Tensor | None = None) -> Tensor:
        """One evaluation of the network: its output o in the state's shape (and, with ``correct_x0``, the corrected x̂0).

        ``times`` is what :meth:`times` gives for ``level``, if the caller has it already.

        Raises:
            TypeError, ValueError: if what the network returns is not a tensor of x's shape.
        """
        dtype = self.dtype or x.dtype
        scaled = x
        if self.predicts == "F":
            a, r = numbers(level)
            scaled = multiplication((r * r + (a * self.sigma_data) ** 2) ** -0.5) @ x
        if times is None:
            (times,) = self.times([level], x)
        out = self.net(scaled if scaled.dtype == dtype else scaled.to(dtype), times, **self.conditioning)
        if not isinstance(out, Tensor):
            raise TypeError(f"the network returned {type(out).__name__}; expected a tensor of shape {tuple(x.shape)} (wrap it)")
        if self.predicts == "x0" and out.shape == (len(x), *self.shape):
            out = self.process.state(out)  # of clean data a network need not predict what is known
        if out.shape != x.shape:
            doubled = out.ndim > 1 and out.shape[1] == 2 * x.shape[1]
            raise ValueError(
                f"the network returned shape {tuple(out.shape)} for a state of shape {tuple(x.shape)}; expected the same shape"
                + " (a learned variance? return the first half of the channels)" * doubled
                + ' (the shape of the data: with predicts="x0" the rest of the state is known)' * (out.shape[1:] == self.shape)
            )
        if self.correct_x0 is None:
            return out
        return self.correct_x0(combine(self._linear(self.predicts, level).x0, (x, out)), level)

    def __call__(self, x: Tensor, level: Level | float) -> Prediction:
        """The prediction (x̂0, ε̂) at a state ``x`` of shape (batch, *shape) on ``level`` (or at that time)."""
        if not isinstance(level, Level):
            level = self.process.level(level)
        linear = self.linear(level)
        both = (x, self.evaluate(x, level))
        return Prediction(*(combine(pair, both) for pair in linear))


def clip(low: float = -1.0, high: float = 1.0) -> Callable[[Tensor, Level], Tensor]:
    """``correct_x0`` that clamps every estimate to [low, high], as DDPM's sampler does."""
    if not low < high:
        raise ValueError(f"expected low < high, got low={low!r}, high={high!r}")
    return lambda x0, level: x0.clamp(low, high)


def dynamic_threshold(quantile: float = 0.995, least: float = 1.0) -> Callable[[Tensor, Level], Tensor]:
    """``correct_x0`` that clamps to the sample's own quantile of |x̂0| and rescales to [−1, 1] (Imagen, arXiv 2205.11487)."""
    if not 0.0 < quantile <= 1.0:
        raise ValueError(f"quantile={quantile!r}: expected a number in (0, 1]")

    def correct(x0: Tensor, level: Level) -> Tensor:
        size = torch.quantile(x0.abs().flatten(1), quantile, dim=1).clamp(min=least)
        size = size.view(-1, *[1] * (x0.ndim - 1))
        return x0.clamp(-size, size) / size

    return correct
