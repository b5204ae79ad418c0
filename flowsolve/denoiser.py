r"""A network, its process and what it predicts: called at (x, level) it gives (x̂0, ε̂)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from . import conditioning as conditions
from . import network
from .about import About
from .checked import Positive, checked
from .errors import Unsuited, unknown
from .linear import Correction, Prediction
from .network import TIMES, Floating, Net, Real, Shape, Times
from .operators import combine
from .parametrizations import X0, Linear, Parametrization, find_parametrization
from .processes import Level, Process
from .readers import Later
from .typing import Float, Int


@checked
@dataclass(frozen=True, eq=False)
class Denoiser:
    """A trained network as every solver sees it.

    Args:
        net: called as ``net(x, time, **conditioning)``: x a state, (batch, *state_shape), its to
            change, time (batch,); returns a tensor like x, or (batch, *shape) if that is less and
            it predicts x0; or an object with such a ``.sample``, or a tuple of one.
        process: the forward process it was trained on.
        predicts: "eps", "x0", "v", "velocity", "flow", "score", "F", "scm", perhaps with options,
            "F(sigma_data=1)", or an object of :mod:`flowsolve.parametrizations` (which has a table
            of them) or of your own; "eps" or "x0" where A and R are matrices.
        shape: the shape of one sample of the data, without the batch dimension. It may be left out:
            then samples have the shape of ``start``, which every run has to be given.
        time: what the network is told, instead of the process's convention (``process.label``):
            "t", "sigma", "quarter_log_sigma", "logsnr", or a function of the
            :class:`~flowsolve.Level`. Integers stay integers, ``lambda level: round(level.t)``.
        dtype: of the states that the network is given; by default that of its first floating
            parameter, else the state's.
        time_dtype: of the times; by default float32, or float64 for a float64 network: in half
            precision neighbouring levels would be one.
        variance: "learned_range" for a network with twice the channels, whose second half is
            improved-diffusion's v: ancestral steps (ddpm, ddim with ``eta``) add noise of variance
            η² β^f β̃^(1−f), f = (v + 1)/2 (arXiv 2102.09672, eq. 15). Other solvers ignore it.
        correct_x0: a function (x̂0, level) → x̂0 applied to every estimate, such as :func:`clip` or
            :func:`dynamic_threshold`; ε̂ is derived again so that x = A x̂0 + R ε̂ still holds.
        data_scale: the standard deviation of an entry of the data, for "auto"; by default √0.3.
        conditioning, per_sample: keyword arguments for the network, and which of them have a row
            for each sample; see :meth:`given`.

    Raises TypeError or ValueError for arguments that do not fit together.
    """

    such_as: ClassVar[str] = (
        "a denoiser; wrap the network so that its process and prediction are known: "
        'flowsolve.Denoiser(net, process=flowsolve.VP(), predicts="eps", shape=(3, 32, 32))'
    )

    #: How many samples every call has to be of, where that is fixed, as in a pipeline.
    whole: ClassVar[int | None] = None
    net: Net
    process: Process
    predicts: Annotated[str | Parametrization, Later("find_parametrization")] = "eps"
    shape: Shape | None = None
    _: KW_ONLY
    time: str | Callable[[Level], float] | None = None
    dtype: Floating | None = None
    time_dtype: Real | None = None
    variance: Literal["learned_range"] | None = None
    correct_x0: Correction | None = None
    data_scale: Positive | None = None
    conditioning: Mapping[str, Any] = field(default_factory=dict)
    per_sample: tuple[str, ...] | None = None
    #: The object that ``predicts`` is or names.
    parametrization: Parametrization = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parametrization", find_parametrization(self.predicts))
        if not self.process.scalar:
            matrices = f"A and R of {self.process!r} are matrices; expected "
            try:
                self.parametrization.target(self.process, self.process.start)
            except Unsuited:
                raise ValueError(f'predicts={self.predicts!r}: {matrices}"eps" or "x0"') from None
            if self.variance is not None:
                raise ValueError(f"variance={self.variance!r}: {matrices}None")
        if isinstance(self.time, str) and self.time not in TIMES:
            raise ValueError(unknown("time", self.time, TIMES))
        if self.shape is not None:
            self.process.state_shape(self.shape)
        conditions.check(self.conditioning, self.per_sample)

    @property
    def device(self) -> torch.device | None:
        """The device of the network's parameters, None if it has none."""
        return getattr(network.parameter_of(self.net), "device", None)

    @property
    def net_dtype(self) -> torch.dtype | None:
        """The dtype of the states that the network is given: ``dtype``, or that of its parameters
        as they are now; None if it has none and takes the state's."""
        return self.dtype or getattr(network.parameter_of(self.net), "dtype", None)

    @property
    def data_shape(self) -> tuple[int, ...]:
        """``shape``. Raises ValueError where it was left out."""
        if self.shape is None:
            raise ValueError("shape=None: expected a start= for every run, or Denoiser(shape=...)")
        return self.shape

    @property
    def state_shape(self) -> tuple[int, ...]:
        """The shape of a sample's state: ``shape``, unless it has more in it than the data."""
        return self.process.state_shape(self.data_shape)

    @property
    def about(self) -> About:
        """What "auto" goes by."""
        size = math.prod(self.state_shape) if self.shape else None
        return About(size, self.data_scale, self.parametrization)

    @property
    def state_dtype(self) -> torch.dtype:
        """Of a state started from noise: float64 for such a network, and with matrices."""
        wide = self.net_dtype == torch.float64 or not self.process.scalar
        return torch.float64 if wide else torch.float32

    def in_run(self) -> Denoiser:
        """The model as one run sees it: with its network's dtype now. Warns of training mode."""
        network.warn_of_training(self.net)
        if self.dtype is not None or not isinstance(self.net, torch.nn.Module):
            return self
        model = copy.copy(self)
        object.__setattr__(model, "dtype", self.net_dtype)
        return model

    @checked
    def given(self, *, per_sample: Sequence[str] | None = None, **conditioning: Any) -> Denoiser:
        """The same model with keyword arguments for its network, ``model.given(y=labels)``.

        Args:
            per_sample: the names of those that have a row for each sample of a run, sample i row i:
                ``given(y=labels, context=c, per_sample=["y"])``. They are cut where a run is:
                by ``batch_size``, by ``first``, and where samples have steps of their own. What is
                in dictionaries, and in lists of tensors, has rows too, and a path names one part:
                ``"added.text"``. If nothing is said, the network gets all of every value, and what
                would have to cut one that may have rows is refused; ``[]`` says that none has.
            **conditioning: the arguments.

        Raises ValueError for names that lead nowhere.
        """
        names = self.per_sample
        if per_sample is not None:
            names = tuple(dict.fromkeys((*(names or ()), *per_sample)))
        return replace(self, conditioning={**self.conditioning, **conditioning}, per_sample=names)

    @checked
    def rows(self, rows: slice | Int[Tensor, "k"]) -> Denoiser:
        """The model for some of the samples, a slice of them or their indices."""
        if not self.per_sample:
            return self
        model = copy.copy(self)
        conditioning = conditions.cut(self.conditioning, self.per_sample, rows)
        object.__setattr__(model, "conditioning", conditioning)
        return model

    def linear(self, level: Level) -> Linear:
        """The coefficients of (x̂0, ε̂) in (x, o) at ``level``, o what :meth:`evaluate` returns.
        Raises ValueError where that determines nothing, as "eps" does at pure noise."""
        return self.answers.coefficients(self.process, level)

    @property
    def answers(self) -> Parametrization:
        """What :meth:`evaluate` returns: x̂0 if it is corrected, else what the network predicts."""
        return self.parametrization if self.correct_x0 is None else X0()

    def label(self, level: Level) -> float:
        """What the network is told about ``level``."""
        told = self.time or self.process.label
        return (TIMES[told] if isinstance(told, str) else told)(level)

    def times(self, levels: Sequence[Level], x: Float[Tensor, "n *state"]) -> tuple[Times, ...]:
        """The time argument for each of ``levels`` (or :class:`~flowsolve.processes.Levels`) and a
        batch like ``x``: tensors (batch,)."""
        labels = [[self.label(each) for each in level.each] for level in levels]
        wide = (self.net_dtype or x.dtype) == torch.float64
        told = network.times_of(labels, self.time_dtype, wide, x.device)
        return told.expand(-1, len(x)).contiguous().unbind()

    def evaluate(
        self, x: Float[Tensor, "n *state"], level: Level, times: Times | None = None
    ) -> Float[Tensor, "n *state"]:
        """One evaluation: the output o in the state's shape and dtype, or the corrected x̂0. Raises
        TypeError or ValueError for one that is no tensor of x's shape."""
        return self.evaluate_both(x, level, times)[0]

    def evaluate_both(
        self, x: Float[Tensor, "n *state"], level: Level, times: Times | None = None
    ) -> tuple[Float[Tensor, "n *state"], Float[Tensor, "n *state"] | None]:
        """:meth:`evaluate`, and the second half of the channels where a variance is learned, else
        None; ``times`` is what :meth:`times` gives for ``level``."""
        (times,) = self.times([level], x) if times is None else (times,)
        out = network.ask(self.net, self.input(x, level), times, self.conditioning)
        return self.output(out, x, level)

    def input(self, x: Float[Tensor, "n *state"], level: Level) -> Float[Tensor, "n *state"]:
        """What the network is given for ``x``: a copy in its dtype, times its input scale."""
        scale, dtype = self.parametrization.input_scale(self.process, level), self.net_dtype
        if scale is None and (dtype is None or dtype is x.dtype):
            return x.clone()  # the network may work in place
        return (x if scale is None else scale @ x).to(dtype or x.dtype)

    def output(
        self, out: Any, x: Float[Tensor, "n *state"], level: Level
    ) -> tuple[Float[Tensor, "n *state"], Float[Tensor, "n *state"] | None]:
        """What :meth:`evaluate_both` makes of ``out``, which the network returned for ``x``."""
        spread = None
        if self.variance is not None or not network.alike(out, x):
            # The coefficients meet it in the state's precision, whatever the network's.
            answer, alone = network.answer(out, x).to(x.dtype), self.parametrization.of_data
            out, spread = network.in_shape(answer, x, self.process, alone, self.variance)
        return (out if self.correct_x0 is None else self._corrected(out, x, level)), spread

    def _corrected(
        self, out: Float[Tensor, "n *state"], x: Float[Tensor, "n *state"], level: Level
    ) -> Float[Tensor, "n *state"]:
        """The x̂0 of an answer ``out`` after ``correct_x0``, where there is one."""
        assert self.correct_x0 is not None
        pair = self.parametrization.coefficients(self.process, level).x0
        x0 = self.correct_x0(combine(pair, (x, out)), level)
        network.check_like("correct_x0 returned", x0, x)
        return x0.to(x.dtype)

    @checked
    def __call__(self, x: Float[Tensor, "n *state"], level: Level | float) -> Prediction:
        """The prediction (x̂0, ε̂) at a state ``x`` of shape (batch, *shape) on ``level`` (or at
        that time), in float32 at least."""
        network.check_state("x", x, self.process, self.shape and self.state_shape, self.device)
        level = level if isinstance(level, Level) else self.process.level(level)
        linear, x = self.linear(level), x.to(torch.promote_types(x.dtype, torch.float32))
        both = (x, self.evaluate(x, level))
        return Prediction(*(combine(pair, both) for pair in linear))
