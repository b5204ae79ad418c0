"""Denoisers around denoisers: what changes a prediction is a denoiser itself, for every solver.

What such a denoiser is told for each sample (a guidance scale, a measurement) stands in its
conditioning, beside what the network inside is told, so that it is cut to a run's samples where
that is; the name of each has a space in it, which no argument of a network has.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

from torch import Tensor

from . import conditioning as conditions
from .about import About
from .denoiser import Denoiser
from .network import Times
from .parametrizations import Parametrization
from .processes import Level
from .typing import Float


@dataclass(frozen=True, eq=False)
class Around(Denoiser):
    """A denoiser that asks ``inner``. A subclass says what comes of it, by :meth:`changed`.

    Make one with :meth:`of`. ``given`` reaches the network inside; ``correct_x0`` corrects what
    comes out, that of ``inner`` what goes in.

    Examples:
        >>> class Damped(flowsolve.around.Around):
        ...     def changed(self, inside, x, level, times):
        ...         out, variance = inside.evaluate_both(x, level, times)
        ...         return 0.9 * out, variance
        >>> model = Damped.of(flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25), {})
        >>> flowsolve.sample(model, nfe=4, n=2, seed=0).shape
        torch.Size([2, 2])
    """

    _: KW_ONLY
    inner: Denoiser

    @classmethod
    def of(
        cls,
        inner: Denoiser,
        own: Mapping[str, Any],
        per_sample: Iterable[str] = (),
        *,
        answers: Parametrization | None = None,
        **fields: Any,
    ) -> Any:
        """One around ``inner``.

        Args:
            own: what it is told besides what ``inner`` is, each name with a space in it.
            per_sample: which of that have a row for each sample.
            answers: what :meth:`changed` returns; by default what ``inner`` does.
            fields: the subclass's own.
        """
        names, known = tuple(per_sample), inner.per_sample
        if names and known is None:
            doubtful = [
                path
                for path, value in conditions.leaves(inner.conditioning)
                if path and conditions.rows_of(value) is not None
            ]
            if doubtful:
                raise ValueError(
                    f"{', '.join(doubtful)} may have a row for each sample or be the same for all: "
                    f"expected model.given(..., per_sample={doubtful!r}), or per_sample=[] if no "
                    f"value has rows, before {', '.join(names)} has"
                )
            known = ()
        shape = fields.pop("shape", inner.shape)
        return cls(
            inner.net,
            inner.process,
            answers or inner.answers,
            shape,
            time=inner.time,
            dtype=inner.dtype,
            time_dtype=inner.time_dtype,
            variance=inner.variance,
            data_scale=inner.data_scale,
            conditioning={**inner.conditioning, **own},
            per_sample=known if known is None else (*known, *names),
            inner=inner,
            **fields,
        )

    @property
    def about(self) -> About:
        return super().about._replace(jumps=self.inner.about.jumps)

    def changed(
        self, inside: Denoiser, x: Float[Tensor, "n *state"], level: Level, times: Times
    ) -> tuple[Float[Tensor, "n *state"], Float[Tensor, "n *state"] | None]:
        """What :meth:`evaluate_both` returns, before ``correct_x0``: ``inside`` is ``inner`` with
        what it is told now."""
        raise NotImplementedError

    @property
    def inside(self) -> Denoiser:
        """``inner``, told what belongs to it of what this one is told."""
        model = copy.copy(self.inner)
        told = self.conditioning.items()
        # One that is around another itself has names of that kind as well.
        theirs = {k: v for k, v in told if k in model.conditioning or " " not in k}
        object.__setattr__(model, "conditioning", theirs)
        object.__setattr__(model, "dtype", self.dtype)
        return model

    def evaluate_both(
        self, x: Float[Tensor, "n *state"], level: Level, times: Times | None = None
    ) -> tuple[Float[Tensor, "n *state"], Float[Tensor, "n *state"] | None]:
        (times,) = self.times([level], x) if times is None else (times,)
        out, learned = self.changed(self.inside, x, level, times)
        return (out if self.correct_x0 is None else self._corrected(out, x, level)), learned
