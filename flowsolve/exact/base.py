"""Exact denoisers: a law of the data as a network, and what else is known of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..checked import OneSeed, checked
from ..denoiser import Denoiser, Prediction
from ..network import Times
from ..operators import Block, combine
from ..processes import Level, Number
from ..starts import Samples
from ..typing import Float
from .given import check_states, level_of
from .laws import Law
from .reduction import unmodes


class Exact(Denoiser):
    """A denoiser without error, float64. Use one of the subclasses.

    Raises:
        TypeError, ValueError: from :func:`dataclasses.replace`, for another process, prediction,
            shape, time or dtype than those of the law. Make another denoiser instead.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> x = model.draw(4, level=0.5, seed=0)
        >>> model.score(x, 0.5).shape, model.log_density(x, 0.5).shape
        (torch.Size([4, 2]), torch.Size([4]))
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in self.law.fields.items():
            if getattr(self, name) != value:
                raise ValueError(
                    f"{name}={getattr(self, name)!r}: the law of this exact denoiser was made for "
                    f"{name}={value!r}; expected that, or a new {type(self).__name__}"
                )

    @property
    def law(self) -> Law:
        """The network, as what it is."""
        if not isinstance(self.net, Law):
            raise TypeError(
                f"net={self.net!r} is not the law of an exact denoiser; "
                "expected one, or flowsolve.Denoiser around another network"
            )
        return self.net

    @property
    def _plain(self) -> bool:
        return self.correct_x0 is None and not self.conditioning

    def evaluate_both(
        self, x: Float[Tensor, "n *state"], level: Level, times: Times | None = None
    ) -> tuple[Float[Tensor, "n *state"], Float[Tensor, "n *state"] | None]:
        # The law takes the level itself. To its time and back would cost several times as much as
        # the evaluation where samples are on levels of their own.
        if not self._plain:
            return super().evaluate_both(x, level, times)
        return self.law.predict(x, level).to(x.dtype), None

    def __call__(self, x: Float[Tensor, "n *state"], level: Level | float) -> Prediction:
        """The posterior mean E[x0 | x] and the exact ε̂ at x (batch, *state), in float64; with
        ``correct_x0`` the corrected ones."""
        level = self._level(x, level)
        if not self._plain:
            return super().__call__(x, level)
        return Prediction(*self.law.at(x, level))

    def _level(self, x: Any, level: Any, noisy: bool = False) -> Level:
        """The level at which states ``x`` are looked at, when both have been checked."""
        check_states(x, self.state_shape)
        level = level_of(self.process, level)
        noisy = noisy or isinstance(level.R, Block) or bool((self.law.variances == 0.0).any())
        if noisy and level.R.singular:
            raise ValueError(f"level={level}: expected one with noise")
        return level

    @checked
    def score(
        self, x: Float[Tensor, "n *state"], level: Level | Number
    ) -> Float[Tensor, "n *state"]:
        """∇ log p at x (batch, *state) on a level with noise: −R⁻ᵀε̂."""
        level = self._level(x, level, noisy=True)
        return -level.R.inverse().T @ self.law.at(x, level)[1]

    @checked
    def log_density(
        self, x: Float[Tensor, "n *state"], level: Level | Number
    ) -> Float[Tensor, "n"]:
        """log p of the noisy state x (batch, *state), in nats, shape (batch,)."""
        return self.law.log_density(x, self._level(x, level))

    @checked
    def draw(
        self, n: Samples, *, level: Level | Number | None = None, seed: OneSeed = 0
    ) -> Float[Tensor, "n *state"]:
        """``n`` exact samples (n, *shape): of the data, or of the noisy state at ``level``."""
        law, generator = self.law, torch.Generator().manual_seed(seed)
        device, dtype = law.means.device, law.means.dtype
        k = torch.multinomial(
            law.log_weights.exp().cpu(), n, replacement=True, generator=generator
        ).to(device)

        def normal(*shape: int) -> Tensor:
            out = torch.randn(n, *shape, dtype=dtype, generator=generator, device="cpu")
            return out.to(device)

        spread = normal(law.means.shape[1]) * law.variances[k].sqrt()
        if law.basis is not None:
            spread = torch.einsum("be,bde->bd", spread, law.basis[k])
        x = unmodes(self.process, law.means[k] + spread, self.data_shape)
        if level is None:
            return x
        level = level_of(self.process, level)
        return combine((level.A, level.R), (self.process.state(x), normal(*self.state_shape)))
