"""Mixtures of Gaussians, and what is one: a Gaussian, one point, a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any, Concatenate, ParamSpec

import torch
from torch import Tensor

from ..checked import checked
from ..denoiser import Denoiser
from ..errors import refused
from ..processes import CLD, Level, Number, Process
from ..typing import Float
from .base import Exact
from .given import check_states, level_of, numbers_of
from .laws import FullLaw, law_of
from .reduction import reduced, unmodes

P = ParamSpec("P")


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

    Examples:
        >>> model = flowsolve.exact.Mixture(flowsolve.VP(), [1.0, 3.0], [[-1.0], [1.0]], 0.01)
        >>> model(torch.zeros(1, 1), model.process.start).x0.round(decimals=2)  # the data's mean
        tensor([[0.5000]], dtype=torch.float64)
    """

    @replaceable
    @checked
    def __init__(self, process: Process, weights: Any, means: Any, covariances: Any = 0.0) -> None:
        means, log_weights = numbers_of("means", means), numbers_of("weights", weights).log()
        if means.ndim < 2 or len(means) == 0 or log_weights.shape != means.shape[:1]:
            raise ValueError(
                f"weights have shape {tuple(log_weights.shape)}, means {tuple(means.shape)}; "
                "expected (K,) and (K, *shape) with K >= 1"
            )
        if not torch.isfinite(log_weights).all():
            raise ValueError(refused("weights", weights, "positive numbers"))
        many = covariances if isinstance(covariances, (list, tuple)) else [covariances] * len(means)
        if len(many) != len(means):
            raise ValueError(
                f"{len(many)} covariances for {len(means)} means; "
                "expected one for all or one for each"
            )
        many = [numbers_of(f"covariances[{i}]", c) for i, c in enumerate(many)]
        net = law_of(process, log_weights, means, many)
        super().__init__(net, **net.fields)


class Gaussian(Mixture):
    """Data from N(mean, covariance); its probability flow has a closed form.

    Args:
        process: any process.
        mean: a tensor of one sample's shape.
        covariance: a number, a tensor of that shape (diagonal) or (D, D) (full).

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> start = model.draw(4, level=1.0, seed=0)
        >>> how = {"solver": "unipc3", "nfe": 100, "span": (1.0, 0.001)}
        >>> end = flowsolve.sample(model, start=start, **how)
        >>> bool((end - model.flow(start, 1.0, 0.001)).abs().max() < 1e-4)
        True
    """

    @replaceable
    @checked
    def __init__(self, process: Process, mean: Any, covariance: Any = 1.0) -> None:
        one, c = numbers_of("mean", mean), numbers_of("covariance", covariance)
        if one.ndim == 0 or one.numel() == 0:
            raise ValueError(refused("mean", mean, "one sample of the data, such as [0.0, 0.0]"))
        super().__init__(process, [1.0], one[None], [c])

    @checked
    def flow(
        self, x: Float[Tensor, "n *state"], s: Level | Number, t: Level | Number
    ) -> Float[Tensor, "n *state"]:
        """The exact solution of the probability-flow ODE at t from x (batch, *state) at s.

        In the covariance's eigenbasis :math:`x_t = A_tm + R^c_t(R^c_s)^{-1}(x_s - A_sm)`, with the
        root :math:`R^c` that has the whole covariance :math:`A C A^T + RR^T` in the place of the
        noise's; for numbers it is :math:`\\sqrt{A^2c + R^2}`.

        Raises:
            ValueError: of a blurring process, if the covariance is not isotropic: then there is no
                closed form.
        """
        check_states(x, self.state_shape)
        s, t = level_of(self.process, s, "s"), level_of(self.process, t, "t")
        point = bool((self.law.variances == 0.0).any())
        for name, level in (("s", s), ("t", t)):
            if level.clean and (point or not level.scalar):
                raise ValueError(f"{name}={level}: expected a level with noise")
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
    """Data that are one point, of any shape: ε̂ is constant along every path of the flow.

    Examples:
        >>> model = flowsolve.exact.Dirac(flowsolve.VP(), [0.5, -0.5])
        >>> flowsolve.sample(model, solver="ddim", nfe=1, seed=0)
        tensor([[ 0.5000, -0.5000]], dtype=torch.float64)
    """

    @replaceable
    @checked
    def __init__(self, process: Process, x0: Any) -> None:
        point = numbers_of("x0", x0)
        if point.ndim == 0 or point.numel() == 0:
            raise ValueError(refused("x0", x0, "one sample of the data, such as [0.0, 0.0]"))
        super().__init__(process, point, 0.0)


class Empirical(Mixture):
    """The data themselves: equal point masses at ``data`` (K, *shape). What a network that
    memorised them would say.

    Examples:
        >>> data = torch.tensor([[0.0], [1.0], [2.0]])
        >>> model = flowsolve.exact.Empirical(flowsolve.VP(), data)
        >>> flowsolve.sample(model, nfe=50, n=6, seed=0).round(decimals=2).unique()
        tensor([0., 1., 2.], dtype=torch.float64)
    """

    @replaceable
    @checked
    def __init__(self, process: Process, data: Any) -> None:
        samples = numbers_of("data", data)
        if samples.ndim < 2 or len(samples) == 0:
            raise ValueError(refused("data", data, "samples, (K, *shape) with K >= 1"))
        super().__init__(process, [1.0] * len(samples), samples)
