r"""Exact denoisers of known data distributions: the library's measuring instruments.

If the data are a mixture :math:`\sum_k w_k N(m_k, C_k)`, a noisy state at a level (A, R) has the law
:math:`\sum_k w_k N(Am_k, S_k)` with :math:`S_k = A C_k A^T + RR^T`. With the responsibilities
:math:`r_k \propto w_k N(x; Am_k, S_k)` and :math:`d_k = x - Am_k`,

.. math::
   \nabla\log p = -\sum_k r_k S_k^{-1}d_k,\qquad
   \hat\varepsilon = R^T\sum_k r_k S_k^{-1}d_k,\qquad
   \hat x_0 = \sum_k r_k\,(m_k + C_kA^TS_k^{-1}d_k).

Each of the two estimates is computed by itself, never as the difference of x and the other. Of processes with numbers for A
and R solvers are handed the velocity ε̂ − x̂0, from which both are recovered without cancellation at either end; of others ε̂.
The states of the others are reduced to numbers first (:mod:`flowsolve.reduction`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .denoiser import Denoiser, Prediction, numbers
from .operators import combine
from .processes import CLD, Blurring, Level, Process
from .reduction import modes, reduced, unmodes


class _Law(torch.nn.Module):
    """A mixture of K Gaussians in D dimensions, covariances by their eigenvectors (none: diagonal) and eigenvalues."""

    log_weights: Tensor  # (K,)
    means: Tensor  # (K, D)
    basis: Tensor | None  # (K, D, D), columns are eigenvectors
    variances: Tensor  # (K, D), or (K, 1) if all covariances are isotropic

    def __init__(self, log_weights: Tensor, means: Tensor, basis: Tensor | None, variances: Tensor) -> None:
        super().__init__()
        self.register_buffer("log_weights", log_weights)
        self.register_buffer("means", means)
        self.register_buffer("basis", basis)
        self.register_buffer("variances", variances)

    @property
    def isotropic(self) -> bool:
        return self.basis is None and self.variances.shape[1] == 1

    def forward(self, x: Tensor, a: Any, r: Any) -> tuple[Tensor, Tensor, Tensor]:
        """(x̂0, ε̂, log density) at x of shape (batch, D); a and r are numbers, of shape (batch, 1, 1), or (D,)."""
        v = a * a * self.variances + r * r  # (K, D), or (batch, K, D)
        if self.isotropic and v.shape[-1] == 1:
            d = None
            centres, point = a * self.means, x[:, None] if isinstance(a, Tensor) else x
            far = torch.cdist(point, centres, compute_mode="donot_use_mm_for_euclid_dist").view(len(x), -1).square() / v[..., 0]
            log_det = x.shape[1] * v.log().sum(-1)
        else:
            d = x[:, None] - a * self.means  # (batch, K, D), in the eigenbasis from here on
            if self.basis is not None:
                d = torch.einsum("bkd,kde->bke", d, self.basis)
            far = (d.square() / v).sum(2)
            log_det = v.log().sum(-1)
        log_p = self.log_weights - 0.5 * (far + log_det + x.shape[1] * math.log(2.0 * math.pi))
        responsibility = log_p.softmax(1)
        log_density = log_p.logsumexp(1)
        if d is None:
            v, c = v[..., 0], self.variances[:, 0]
            if isinstance(a, Tensor):
                a, r = a[..., 0], r[..., 0]
            by_v, by_c = responsibility / v, responsibility * (a * c / v)
            eps = r * (by_v.sum(1, keepdim=True) * x - a * (by_v @ self.means))
            x0 = by_c.sum(1, keepdim=True) * x + (responsibility - a * by_c) @ self.means
            return x0, eps, log_density
        eps, shift = d * (r / v), d * (a * self.variances / v)
        if self.basis is not None:
            eps, shift = (torch.einsum("bke,kde->bkd", y, self.basis) for y in (eps, shift))
        x0 = torch.einsum("bk,bkd->bd", responsibility, shift + self.means)
        return x0, torch.einsum("bk,bkd->bd", responsibility, eps), log_density


class _FullLaw(_Law):
    """A mixture of K Gaussians in D dimensions where the entries of a noisy state have A's of their own, (D,)."""

    def forward(self, x: Tensor, a: Any, r: Any) -> tuple[Tensor, Tensor, Tensor]:
        assert self.basis is not None
        c = (self.basis * self.variances[:, None]) @ self.basis.mT
        factor = torch.linalg.cholesky(a[:, None] * c * a + torch.diag_embed(r * r).expand_as(c))
        d = x[:, None] - a * self.means
        solved = torch.cholesky_solve(d.permute(1, 2, 0), factor).permute(2, 0, 1)  # S⁻¹d, (batch, K, D)
        log_det = 2.0 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        log_p = self.log_weights - 0.5 * ((d * solved).sum(2) + log_det + x.shape[1] * math.log(2.0 * math.pi))
        responsibility = log_p.softmax(1)
        x0 = self.means + torch.einsum("kde,bke->bkd", c, a * solved)
        x0, eps = (torch.einsum("bk,bkd->bd", responsibility, part) for part in (x0, r * solved))
        return x0, eps, log_p.logsumexp(1)


class Exact(Denoiser):
    """A denoiser without error, float64. Use one of the subclasses."""

    def __init__(self, process: Process, law: _Law, shape: Sequence[int]) -> None:
        super().__init__(net=law, process=process, predicts="velocity" if process.scalar else "eps", shape=tuple(shape))

    @property
    def law(self) -> _Law:
        assert isinstance(self.net, _Law)
        return self.net

    def _at(self, x: Tensor, level: Level | float) -> tuple[Tensor, Tensor, Tensor]:
        state = reduced(x.to(self.law.means.dtype), level if isinstance(level, Level) else self.process.level(level))
        x0, eps, log_density = self.law(state.x, state.a, state.r)
        return *state.restore(x0, eps), log_density + state.log

    def evaluate(self, x: Tensor, level: Level, times: Tensor | None = None) -> Tensor:
        x0, eps, _ = self._at(x, level)
        return eps if self.predicts == "eps" else eps - x0

    def __call__(self, x: Tensor, level: Level | float) -> Prediction:
        """The posterior mean E[x0 | x] and the exact ε̂ at x (batch, *shape), in float64."""
        x0, eps, _ = self._at(x, level)
        return Prediction(x0, eps)

    def score(self, x: Tensor, level: Level | float) -> Tensor:
        """∇ log p at x (batch, *state) on a level with noise: −R⁻ᵀε̂."""
        level = level if isinstance(level, Level) else self.process.level(level)
        return -level.R.inverse().T @ self(x, level).eps

    def log_density(self, x: Tensor, level: Level | float) -> Tensor:
        """log p of the noisy state x (batch, *shape), in nats, shape (batch,)."""
        return self._at(x, level)[2]

    def draw(self, n: int, *, level: Level | float | None = None, seed: int = 0) -> Tensor:
        """``n`` exact samples (n, *shape): of the data, or of the noisy state at ``level``."""
        law, generator = self.law, torch.Generator().manual_seed(seed)
        k = torch.multinomial(law.log_weights.exp().cpu(), n, replacement=True, generator=generator).to(law.means.device)

        def normal(*shape: int) -> Tensor:
            return torch.randn(n, *shape, dtype=law.means.dtype, generator=generator).to(law.means.device)

        spread = normal(law.means.shape[1]) * law.variances[k].sqrt()
        if law.basis is not None:
            spread = torch.einsum("be,bde->bd", spread, law.basis[k])
        x = unmodes(self.process, law.means[k] + spread, self.shape)
        if level is None:
            return x
        level = level if isinstance(level, Level) else self.process.level(level)
        return combine((level.A, level.R), (self.process.state(x), normal(*self.state_shape)))


class Mixture(Exact):
    """Data from Σ w_k N(m_k, C_k).

    Args:
        process: any process.
        weights: K positive numbers; they are normalised.
        means: (K, *shape).
        covariances: one for all components or a sequence of K; each a number (isotropic), a tensor of shape ``shape``
            (diagonal) or of shape (D, D) with D the size of a sample (full).

    Raises:
        ValueError: for shapes that do not fit, weights that are not positive, a covariance that is not.
    """

    def __init__(self, process: Process, weights: Any, means: Any, covariances: Any = 0.0) -> None:
        means = torch.as_tensor(means, dtype=torch.float64)
        log_weights = torch.as_tensor(weights, dtype=torch.float64).log()
        if means.ndim < 2 or len(means) == 0 or log_weights.shape != means.shape[:1]:
            raise ValueError(
                f"weights have shape {tuple(log_weights.shape)}, means {tuple(means.shape)}; expected (K,) and (K, *shape) with K >= 1"
            )
        if not torch.isfinite(log_weights).all():
            raise ValueError(f"weights={weights!r}: expected positive numbers")
        shape = tuple(means.shape[1:])
        many = covariances if isinstance(covariances, (list, tuple)) else [covariances] * len(means)
        if len(many) != len(means):
            raise ValueError(f"{len(many)} covariances for {len(means)} means; expected one for all or one for each")
        basis, variances = _decompose([torch.as_tensor(c, dtype=torch.float64) for c in many], shape)
        kind = _Law
        if isinstance(process, Blurring) and variances.shape[1] > 1:  # no longer diagonal among the frequencies
            kind, size = _FullLaw, math.prod(shape)
            basis = torch.eye(size, dtype=torch.float64).expand(len(means), -1, -1) if basis is None else basis
            basis = modes(process, basis.mT.reshape(-1, *shape)).view(basis.shape).mT
        super().__init__(process, kind(log_weights.log_softmax(0), modes(process, means), basis, variances), shape)


def _decompose(covariances: list[Tensor], shape: tuple[int, ...]) -> tuple[Tensor | None, Tensor]:
    size = math.prod(shape)
    full = any(c.ndim == 2 and c.shape == (size, size) and c.shape != shape for c in covariances)
    wide = full or any(c.ndim > 0 for c in covariances)
    vectors, values = [], []
    for c in covariances:
        if c.ndim == 0 or c.shape == shape:
            value, vector = c.reshape(-1).expand(size if wide else 1), torch.eye(size if full else 1, dtype=torch.float64)
        elif c.shape == (size, size):
            value, vector = torch.linalg.eigh(0.5 * (c + c.T))
            value = torch.where(value.abs() < 1e-12 * value.abs().max(), 0.0, value)  # a semi-definite covariance is welcome
        else:
            raise ValueError(f"a covariance has shape {tuple(c.shape)}; expected a number, {shape} or {(size, size)}")
        if not (value >= 0).all():
            raise ValueError(f"a covariance has the negative variance {value.min().item():.3g}; expected a positive semi-definite one")
        vectors.append(vector)
        values.append(value)
    return torch.stack(vectors) if full else None, torch.stack(values)


class Gaussian(Mixture):
    """Data from N(mean, covariance); its probability flow has a closed form.

    Args:
        process: any process.
        mean: a tensor of one sample's shape.
        covariance: a number, a tensor of that shape (diagonal) or (D, D) (full).
    """

    def __init__(self, process: Process, mean: Any, covariance: Any = 1.0) -> None:
        super().__init__(process, [1.0], torch.as_tensor(mean, dtype=torch.float64)[None], [covariance])

    def flow(self, x: Tensor, s: Level | float, t: Level | float) -> Tensor:
        """The exact solution of the probability-flow ODE at t from x (batch, *shape) at s.

        In the covariance's eigenbasis :math:`x_t = A_tm + R^c_t(R^c_s)^{-1}(x_s - A_sm)`, with the root :math:`R^c` that has the whole
        covariance :math:`A C A^T + RR^T` in the place of the noise's; for numbers it is :math:`\\sqrt{A^2c + R^2}`.

        Raises:
            ValueError: of a blurring process, if the covariance is not isotropic: then there is no closed form.
        """
        s, t = (u if isinstance(u, Level) else self.process.level(u) for u in (s, t))
        law = self.law
        if isinstance(self.process, CLD):
            return self._pair_flow(self.process, x, s, t)
        if isinstance(law, _FullLaw):
            raise ValueError("the flow of a Gaussian under a blurring process has a closed form for isotropic covariances only")
        if isinstance(self.process, Blurring):
            m, mean = reduced(x.to(law.means.dtype), s), law.means[0]
            a_t, r_t = reduced(x, t)[1:3]
            ratio = ((a_t**2 * law.variances[0] + r_t**2) / (m.a**2 * law.variances[0] + m.r**2)).sqrt()
            return unmodes(self.process, a_t * mean + ratio * (m.x - m.a * mean), self.shape)
        (a_s, r_s), (a_t, r_t) = numbers(s), numbers(t)
        ratio = ((a_t**2 * law.variances[0] + r_t**2) / (a_s**2 * law.variances[0] + r_s**2)).sqrt()
        d = x.to(law.means.dtype).flatten(1) - a_s * law.means[0]
        d = d * ratio if law.basis is None else ((d @ law.basis[0]) * ratio) @ law.basis[0].T
        return (a_t * law.means[0] + d).view(x.shape)

    def _pair_flow(self, process: CLD, x: Tensor, s: Level, t: Level) -> Tensor:
        """Each eigenvector of the covariance is a process of its own, whose positions have c more of clean variance."""
        law, half = self.law, len(self.law.means[0])
        m_s, m_t = (level.A @ process.state(law.means[0].view(1, half, 1)) for level in (s, t))
        d = x.to(law.means.dtype).view(len(x), 2, half, 1).flatten(1, 2) - m_s
        if law.basis is not None:
            d = torch.cat([law.basis[0].T @ part for part in d.chunk(2, 1)], 1)
        out = torch.empty_like(d)
        for i, c in enumerate(law.variances[0].expand(half).tolist()):
            wide = replace(process, c0=process.c0 + c)
            out[:, [i, half + i]] = (wide.level(t.t).R @ wide.level(s.t).R.inverse()) @ d[:, [i, half + i]]
        if law.basis is not None:
            out = torch.cat([law.basis[0] @ part for part in out.chunk(2, 1)], 1)
        return (out + m_t).view(x.shape)


class Dirac(Gaussian):
    """Data that are one point, of any shape: ε̂ is constant along every path of the flow."""

    def __init__(self, process: Process, x0: Any) -> None:
        super().__init__(process, x0, 0.0)


class Empirical(Mixture):
    """The data themselves: equal point masses at ``data`` (K, *shape). What a network that memorised them would say."""

    def __init__(self, process: Process, data: Any) -> None:
        data = torch.as_tensor(data)
        super().__init__(process, torch.ones(len(data)), data)
