r"""A network, its process and what it predicts: called at (x, level) it gives (x̂0, ε̂)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from .errors import Unsuited, unknown
from .operators import combine
from .parametrizations import X0, Linear, Parametrization, find_parametrization
from .processes import Level, Process
from .typing import Float, Int


class Prediction(NamedTuple):
    """The two estimates at one state, x = A x̂0 + R ε̂; each of shape (batch, *state)."""

    x0: Float[Tensor, "n *state"]
    eps: Float[Tensor, "n *state"]


#: What ``correct_x0`` is: a function (x̂0, level) → x̂0.
Correction = Callable[[Float[Tensor, "n *state"], Level], Float[Tensor, "n *state"]]

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
        net: called as ``net(x, time, **conditioning)``: x a state, (batch, *state_shape), time of
            shape (batch,); returns a tensor of x's shape, or of (batch, *shape) if that is less and
            it predicts x0.
        process: the forward process it was trained on.
        predicts: "eps", "x0", "v", "velocity", "score", "F", "scm", or an object with options or
            of your own (:mod:`flowsolve.parametrizations`, which has a table of them); "eps" or
            "x0" where A and R are matrices.
        shape: the shape of one sample of the data, without the batch dimension.
        time: what the network is told, instead of the process's convention (``process.label``):
            "t", "sigma", "quarter_log_sigma", "logsnr", or a function of the
            :class:`~flowsolve.Level`.
        dtype: the network's dtype; by default that of its first floating parameter, else the
            state's.
        correct_x0: a function (x̂0, level) → x̂0 applied to every estimate, such as :func:`clip` or
            :func:`dynamic_threshold`; ε̂ is derived again so that x = A x̂0 + R ε̂ still holds.
        conditioning: keyword arguments for the network; see :meth:`given`.

    Raises:
        TypeError, ValueError: at construction, for arguments that do not fit together.
    """

    such_as: ClassVar[str] = (
        "a denoiser; wrap the network so that its process and prediction are known: "
        'flowsolve.Denoiser(net, process=flowsolve.VP(), predicts="eps", shape=(3, 32, 32))'
    )

    net: Callable[..., Any]
    process: Process
    predicts: str | Parametrization = "eps"
    shape: tuple[int, ...] = ()
    _: KW_ONLY
    time: str | Callable[[Level], float] | None = None
    dtype: torch.dtype | None = None
    correct_x0: Correction | None = None
    conditioning: Mapping[str, Any] = field(default_factory=dict)
    #: The object that ``predicts`` is or names.
    parametrization: Parametrization = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not callable(self.net):
            raise TypeError(
                f"net={self.net!r} is not callable; expected a network called as net(x, time, "
                "**conditioning)"
            )
        if not isinstance(self.process, Process):
            raise TypeError(
                f"process={self.process!r} is not a process; expected flowsolve.VP(), "
                "flowsolve.EDM(), ..."
            )
        object.__setattr__(self, "parametrization", find_parametrization(self.predicts))
        if not self.process.scalar:
            try:
                self.parametrization.target(self.process, self.process.start)
            except Unsuited:
                raise ValueError(
                    f"predicts={self.predicts!r}: A and R of {self.process!r} are matrices; "
                    'expected "eps" or "x0"'
                ) from None
        if isinstance(self.time, str) and self.time not in TIMES:
            raise ValueError(unknown("time", self.time, TIMES))
        try:
            shape = tuple(int(k) for k in self.shape)
        except TypeError:
            raise TypeError(f"shape={self.shape!r}: expected a tuple such as (3, 32, 32)") from None
        if not shape or any(k < 1 for k in shape):
            raise ValueError(
                f"shape={self.shape!r}: expected the shape of one sample, such as (3, 32, 32)"
            )
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
        """The shape of one sample's state: ``shape``, unless the process has more than the data in
        it."""
        return self.process.state_shape(self.shape)

    @property
    def state_dtype(self) -> torch.dtype:
        """The dtype of a state started from noise: float32, or float64 for a float64 network and
        where A and R are matrices."""
        return (
            torch.float64
            if self.dtype == torch.float64 or not self.process.scalar
            else torch.float32
        )

    def given(self, **conditioning: Any) -> Denoiser:
        """The same model with keyword arguments for its network, e.g. ``model.given(y=labels)``.

        A tensor whose first dimension is the number of samples is split with the batch.
        """
        return replace(self, conditioning={**self.conditioning, **conditioning})

    def rows(self, rows: slice | Int[Tensor, "k"], n: int) -> Denoiser:
        """The model for some of n samples, a slice of them or their indices: per-sample
        conditioning tensors are cut to them."""
        if not self.conditioning or (isinstance(rows, slice) and rows == slice(0, n)):
            return self
        return self.given(
            **{
                key: value[rows]
                if isinstance(value, Tensor) and value.ndim and len(value) == n
                else value
                for key, value in self.conditioning.items()
            }
        )

    def linear(self, level: Level) -> Linear:
        """The coefficients of (x̂0, ε̂) in (x, o) at ``level``, o what :meth:`evaluate` returns.

        Raises:
            ValueError: at a level where the prediction determines nothing, as "eps" at pure noise.
        """
        return self.answers.coefficients(self.process, level)

    @property
    def answers(self) -> Parametrization:
        """What :meth:`evaluate` returns: x̂0 if it is corrected, else what the network predicts."""
        return self.parametrization if self.correct_x0 is None else X0()

    def label(self, level: Level) -> float:
        """What the network is told about ``level``."""
        if self.time is None:
            return self.process.label(level)
        return (TIMES[self.time] if isinstance(self.time, str) else self.time)(level)

    def times(
        self, levels: Sequence[Level], x: Float[Tensor, "n *state"]
    ) -> tuple[Float[Tensor, "n"], ...]:
        """The time argument for each of ``levels`` (or :class:`~flowsolve.processes.Levels`) and a
        batch like ``x``: tensors (batch,).

        A half-precision time would merge neighbouring levels, so it is float32 even for a
        half-precision network.
        """
        dtype = torch.float64 if (self.dtype or x.dtype) == torch.float64 else torch.float32
        labels = torch.tensor(
            [[self.label(each) for each in level.each] for level in levels],
            dtype=dtype,
            device=x.device,
        )
        return labels.expand(-1, len(x)).contiguous().unbind()

    def evaluate(
        self, x: Float[Tensor, "n *state"], level: Level, times: Float[Tensor, "n"] | None = None
    ) -> Float[Tensor, "n *state"]:
        """One evaluation of the network: its output o in the state's shape (and, with
        ``correct_x0``, the corrected x̂0).

        ``times`` is what :meth:`times` gives for ``level``, if the caller has it already.

        Raises:
            TypeError, ValueError: if what the network returns is not a tensor of x's shape.
        """
        dtype = self.dtype or x.dtype
        scale = self.parametrization.input_scale(self.process, level)
        scaled = (x if scale is None else scale @ x).to(dtype)
        if times is None:
            (times,) = self.times([level], x)
        out = self.net(scaled, times, **self.conditioning)
        if not isinstance(out, Tensor):
            raise TypeError(
                f"the network returned {type(out).__name__}; expected a tensor of shape "
                f"{tuple(x.shape)} (wrap it)"
            )
        if self.parametrization.of_data and out.shape == (len(x), *self.shape):
            out = self.process.state(out)  # of clean data a network need not predict what is known
        if out.shape != x.shape:
            doubled = out.ndim > 1 and out.shape[1] == 2 * x.shape[1]
            raise ValueError(
                f"the network returned shape {tuple(out.shape)} for a state of shape "
                f"{tuple(x.shape)}; expected the same shape"
                + " (a learned variance? return the first half of the channels)" * doubled
                + ' (the shape of the data: with predicts="x0" the rest of the state is known)'
                * (out.shape[1:] == self.shape)
            )
        if self.correct_x0 is None:
            return out
        plain = self.parametrization.coefficients(self.process, level)
        return self.correct_x0(combine(plain.x0, (x, out)), level)

    def __call__(self, x: Float[Tensor, "n *state"], level: Level | float) -> Prediction:
        """The prediction (x̂0, ε̂) at a state ``x`` of shape (batch, *shape) on ``level`` (or at
        that time)."""
        if not isinstance(level, Level):
            level = self.process.level(level)
        linear = self.linear(level)
        both = (x, self.evaluate(x, level))
        return Prediction(*(combine(pair, both) for pair in linear))
