"""Mixtures of Gaussians, and what is one: a Gaussian, one point, a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any, Concatenate, ParamSpec

import torch
from torch import Tensor

from ..denoiser import Denoiser, Prediction
from ..network import Times
from ..operators import combine
from ..processes import CLD, Level, Process
from ..typing import Float
from .laws import FullLaw, Law, law_of
from .reduction import reduced, unmodes

P = ParamSpec("P")


class Exact(Denoiser):
    """A denoiser without error, float64. Use one of the subclasses.

    Raises:
        TypeError, ValueError: from :func:`dataclasses.replace`, for another process, prediction,
            shape, time or dtype than those of the law. Make another denoiser instead.
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
        return self.law.predict(x, level), None

    def __call__(self, x: Float[Tensor, "n *state"], level: Level | float) -> Prediction:
        """The posterior mean E[x0 | x] and the exact ε̂ at x (batch, *state), in float64; with
        ``correct_x0`` the corrected ones."""
        if not self._plain:
            return super().__call__(x, level)
        return Prediction(*self.law.at(x, self._level(level)))

    def _level(self, level: Level | float) -> Level:
        return level if isinstance(level, Level) else self.process.level(level)

    def score(
        self, x: Float[Tensor, "n *state"], level: Level | float
    ) -> Float[Tensor, "n *state"]:
        """∇ log p at x (batch, *state) on a level with noise: −R⁻ᵀε̂."""
        level = self._level(level)
        return -level.R.inverse().T @ self.law.at(x, level)[1]

    def log_density(self, x: Float[Tensor, "n *state"], level: Level | float) -> Float[Tensor, "n"]:
        """log p of the noisy state x (batch, *state), in nats, shape (batch,)."""
        return self.law.log_density(x, self._level(level))

    def draw(
        self, n: int, *, level: Level | float | None = None, seed: int = 0
    ) -> Float[Tensor, "n *state"]:
        """``n`` exact samples (n, *shape): of the data, or of the noisy state at ``level``."""
        law, generator = self.law, torch.Generator().manual_seed(seed)
        device, dtype = law.means.device, law.means.dtype
        k = torch.multinomial(
            law.log_weights.exp().cpu(), n, replacement=True, generator=generator
        ).to(device)

        def normal(*shape: int) -> Tensor:
            return torch.randn(n, *shape, dtype=dtype, generator=generator).to(device)

        spread = normal(law.means.shape[1]) * law.variances[k].sqrt()
        if law.basis is not None:
            spread = torch.einsum("be,bde->bd", spread, law.basis[k])
        x = unmodes(self.process, law.means[k] + spread, self.data_shape)
        if level is None:
            return x
        level = self._level(level)
        return combine((level.A, level.R), (self.process.state(x), normal(*self.state_shape)))


def replaceable(init: Callable[Concatenate[Any, P], None]) -> Callable[Concatenate[Any, P], None]:
    """The constructor ``init``, which :func:`dataclasses.replace` may call with a denoiser's own
    fields instead."""

    @wraps(init)
    def either(self: Any, *args: P.args, **kwargs: P.kwargs) -> None:
        if "net" in kwargs:
            Denoiser.__init__(self, **kwargs)  # type: ignore[arg-type]
        else:
            init(self, *args, **kwargs)

    return either


class Mixture(Exact):
    """Data from Σ w_k N(m_k, C_k).

    Args:
        process: any process.
        weights: K positive numbers; they are normalised.
        means: (K, *shape).
        covariances: one for all components or a sequence of K; each a number (isotropic), a tensor
            of shape ``shape`` (diagonal) or of shape (D, D) with D the size of a sample (full).

    Raises:
        ValueError: for shapes that do not fit, weights that are not positive, a covariance that is
            not.
    """

    @replaceable
    def __init__(self, process: Process, weights: Any, means: Any, covariances: Any = 0.0) -> None:
        means = torch.as_tensor(means, dtype=torch.float64)
        log_weights = torch.as_tensor(weights, dtype=torch.float64).log()
        if means.ndim < 2 or len(means) == 0 or log_weights.shape != means.shape[:1]:
            raise ValueError(
                f"weights have shape {tuple(log_weights.shape)}, means {tuple(means.shape)}; "
                "expected (K,) and (K, *shape) with K >= 1"
            )
        if not torch.isfinite(log_weights).all():
            raise ValueError(f"weights={weights!r}: expected positive numbers")
        many = covariances if isinstance(covariances, (list, tuple)) else [covariances] * len(means)
        if len(many) != len(means):
            raise ValueError(
                f"{len(many)} covariances for {len(means)} means; "
                "expected one for all or one for each"
            )
        many = [torch.as_tensor(c, dtype=torch.float64) for c in many]
        net = law_of(process, log_weights, means, many)
        super().__init__(net, **net.fields)


class Gaussian(Mixture):
    """Data from N(mean, covariance); its probability flow has a closed form.

    Args:
        process: any process.
        mean: a tensor of one sample's shape.
        covariance: a number, a tensor of that shape (diagonal) or (D, D) (full).
    """

    @replaceable
    def __init__(self, process: Process, mean: Any, covariance: Any = 1.0) -> None:
        mean = torch.as_tensor(mean, dtype=torch.float64)
        super().__init__(process, [1.0], mean[None], [covariance])

    def flow(
        self, x: Float[Tensor, "n *state"], s: Level | float, t: Level | float
    ) -> Float[Tensor, "n *state"]:
        """The exact solution of the probability-flow ODE at t from x (batch, *state) at s.

        In the covariance's eigenbasis :math:`x_t = A_tm + R^c_t(R^c_s)^{-1}(x_s - A_sm)`, with the
        root :math:`R^c` that has the whole covariance :math:`A C A^T + RR^T` in the place of the
        noise's; for numbers it is :math:`\\sqrt{A^2c + R^2}`.

        Raises:
            ValueError: of a blurring process, if the covariance is not isotropic: then there is no
                closed form.
        """
        s, t = self._level(s), self._level(t)
        law, x = self.law, x.to(self.law.means.dtype)
        if isinstance(self.process, CLD):
            return self._pair_flow(self.process, x, s, t)
        if isinstance(law, FullLaw):
            raise ValueError(
                "the flow of a Gaussian under a blurring process has a closed form for isotropic "
                "covariances only"
            )
        (y, a_s, r_s), (_, a_t, r_t) = reduced(x, s)[:3], reduced(x, t)[:3]
        mean, c = law.means[0], law.variances[0]
        ratio = ((a_t**2 * c + r_t**2) / (a_s**2 * c + r_s**2)).sqrt()
        d = y - a_s * mean
        d = d * ratio if law.basis is None else ((d @ law.basis[0]) * ratio) @ law.basis[0].T
        return unmodes(self.process, a_t * mean + d, self.data_shape)

    def _pair_flow(self, process: CLD, x: Tensor, s: Level, t: Level) -> Tensor:
        """Each eigenvector of the covariance is a process of its own, whose positions have c more
        of clean variance."""
        law, half = self.law, len(self.law.means[0])
        m_s, m_t = (level.A @ process.state(law.means[0].view(1, half, 1)) for level in (s, t))
        d = x.view(len(x), 2, half, 1).flatten(1, 2) - m_s
        if law.basis is not None:
            d = torch.cat([law.basis[0].T @ part for part in d.chunk(2, 1)], 1)
        out = torch.empty_like(d)
        for i, c in enumerate(law.variances[0].expand(half).tolist()):
            wide, both = replace(process, c0=process.c0 + c), [i, half + i]
            out[:, both] = (wide.level(t.t).R @ wide.level(s.t).R.inverse()) @ d[:, both]
        if law.basis is not None:
            out = torch.cat([law.basis[0] @ part for part in out.chunk(2, 1)], 1)
        return (out + m_t).view(x.shape)


class Dirac(Gaussian):
    """Data that are one point, of any shape: ε̂ is constant along every path of the flow."""

    @replaceable
    def __init__(self, process: Process, x0: Any) -> None:
        super().__init__(process, x0, 0.0)


class Empirical(Mixture):
    """The data themselves: equal point masses at ``data`` (K, *shape). What a network that
    memorised them would say."""

    @replaceable
    def __init__(self, process: Process, data: Any) -> None:
        data = torch.as_tensor(data)
        super().__init__(process, torch.ones(len(data)), data)
