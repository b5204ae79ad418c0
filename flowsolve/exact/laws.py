"""The networks of exact denoisers: laws of the data, called at noisy states as a network is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..processes import Level, Levels, Process
from ..typing import Float
from .reduction import modes, reduced, spectral


class Law(torch.nn.Module):
    """A mixture of K Gaussians, in the D dimensions of a process's reduced states.

    Args:
        process: any process.
        shape: the shape of one sample of the data.
        log_weights: (K,), of weights that add up to 1.
        means: (K, D).
        basis: (K, D, D), its columns the covariances' eigenvectors; None if they are diagonal.
        variances: the eigenvalues, (K, D), or (K, 1) if all covariances are isotropic.
    """

    log_weights: Float[Tensor, "K"]
    means: Float[Tensor, "K D"]
    basis: Float[Tensor, "K D D"] | None
    variances: Float[Tensor, "K #D"]

    def __init__(
        self,
        process: Process,
        shape: tuple[int, ...],
        log_weights: Tensor,
        means: Tensor,
        basis: Tensor | None,
        variances: Tensor,
    ) -> None:
        super().__init__()
        self.eval()
        self.process, self.shape = process, shape
        self.register_buffer("log_weights", log_weights)
        self.register_buffer("means", means)
        self.register_buffer("basis", basis)
        self.register_buffer("variances", variances)

    @property
    def fields(self) -> dict[str, Any]:
        """What the denoiser around this network has to say of it."""
        return {
            "process": self.process,
            "predicts": "flow" if self.process.scalar else "eps",
            "shape": self.shape,
            "time": "t",
            "dtype": torch.float64,
        }

    def forward(
        self, x: Float[Tensor, "n *state"], time: Float[Tensor, "n"]
    ) -> Float[Tensor, "n *state"]:
        """The prediction at states x (batch, *state) and the process's times (batch,)."""
        low, high = (bound.item() for bound in time.aminmax())
        if low == high:
            return self.predict(x, self.process.level(low))
        if self.process.scalar:
            return self.predict(x, Levels(map(self.process.level, time.tolist())))
        return torch.cat([self(x[i : i + 1], time[i : i + 1]) for i in range(len(x))])

    def predict(self, x: Float[Tensor, "n *state"], level: Level) -> Float[Tensor, "n *state"]:
        """ε̂ − x̂0 where A and R are numbers, else ε̂."""
        x0, eps = self.at(x, level)
        return eps - x0 if self.process.scalar else eps

    def at(
        self, x: Float[Tensor, "n *state"], level: Level
    ) -> tuple[Float[Tensor, "n *state"], Float[Tensor, "n *state"]]:
        """(x̂0, ε̂) at states x (batch, *state)."""
        state = reduced(x.to(self.means.dtype), level)
        x0, eps, _ = self.estimates(state.x, state.a, state.r)
        return state.restore(x0, eps)

    def log_density(self, x: Float[Tensor, "n *state"], level: Level) -> Float[Tensor, "n"]:
        """log p, (batch,), of states x (batch, *state)."""
        state = reduced(x.to(self.means.dtype), level)
        return self.estimates(state.x, state.a, state.r)[2].logsumexp(1) + state.log

    def estimates(self, x: Tensor, a: Any, r: Any) -> tuple[Tensor, Tensor, Tensor]:
        """(x̂0, ε̂, log p of each component) at reduced states x of shape (batch, D); a and r are
        numbers, of shape (batch, 1, 1), or (D,)."""
        v = a * a * self.variances + r * r  # (K, D), or (batch, K, D)
        if self.basis is None and v.shape[-1] == 1:
            return self._isotropic(x, a, r, v)
        d = x[:, None] - a * self.means  # (batch, K, D), in the eigenbasis from here on
        if self.basis is not None:
            d = torch.einsum("bkd,kde->bke", d, self.basis)
        log_p = self._log_p((d.square() / v).sum(2), v.log().sum(-1), x)
        responsibility = log_p.softmax(1)
        eps, shift = d * (r / v), d * (a * self.variances / v)
        if self.basis is not None:
            eps, shift = (torch.einsum("bke,kde->bkd", y, self.basis) for y in (eps, shift))
        x0 = torch.einsum("bk,bkd->bd", responsibility, shift + self.means)
        return x0, torch.einsum("bk,bkd->bd", responsibility, eps), log_p

    def _isotropic(self, x: Tensor, a: Any, r: Any, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same without a tensor (batch, K, D)."""
        v, c = v[..., 0], self.variances[:, 0]
        centres, point = a * self.means, x[:, None] if isinstance(a, Tensor) else x
        distance = torch.cdist(point, centres, compute_mode="donot_use_mm_for_euclid_dist")
        far = distance.view(len(x), -1).square() / v
        log_p = self._log_p(far, x.shape[1] * v.log(), x)
        responsibility = log_p.softmax(1)
        if isinstance(a, Tensor):
            a, r = a[..., 0], r[..., 0]
        by_v, by_c = responsibility / v, responsibility * (a * c / v)
        eps = r * (by_v.sum(1, keepdim=True) * x - a * (by_v @ self.means))
        x0 = by_c.sum(1, keepdim=True) * x + (responsibility - a * by_c) @ self.means
        return x0, eps, log_p

    def _log_p(self, far: Tensor, log_det: Tensor, x: Tensor) -> Tensor:
        return self.log_weights - 0.5 * (far + log_det + x.shape[1] * math.log(2.0 * math.pi))


class FullLaw(Law):
    """A mixture of K Gaussians in D dimensions where the entries of a noisy state have A's of their
    own, (D,)."""

    def estimates(self, x: Tensor, a: Any, r: Any) -> tuple[Tensor, Tensor, Tensor]:
        assert self.basis is not None
        c = (self.basis * self.variances[:, None]) @ self.basis.mT
        factor = torch.linalg.cholesky(a[:, None] * c * a + torch.diag_embed(r * r).expand_as(c))
        d = x[:, None] - a * self.means
        solved = torch.cholesky_solve(d.permute(1, 2, 0), factor)
        solved = solved.permute(2, 0, 1)  # S⁻¹d, (batch, K, D)
        log_det = 2.0 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        log_p = self._log_p((d * solved).sum(2), log_det, x)
        responsibility = log_p.softmax(1)
        x0 = self.means + torch.einsum("kde,bke->bkd", c, a * solved)
        x0, eps = (torch.einsum("bk,bkd->bd", responsibility, part) for part in (x0, r * solved))
        return x0, eps, log_p


def law_of(
    process: Process, log_weights: Tensor, means: Tensor, covariances: Sequence[Tensor]
) -> Law:
    """The law of data with means (K, *shape), each with a covariance: a number, of shape ``shape``
    (diagonal) or (D, D).

    Raises:
        ValueError: for a covariance of another shape, or with a negative variance.
    """
    shape = tuple(means.shape[1:])
    basis, variances = _decompose(covariances, shape)
    kind = Law
    if spectral(process) and variances.shape[1] > 1:  # not diagonal among the frequencies
        kind = FullLaw
        if basis is None:
            size = math.prod(shape)
            basis = torch.eye(size, dtype=torch.float64, device=means.device)
            basis = basis.expand(len(means), -1, -1)
        basis = modes(process, basis.mT.reshape(-1, *shape)).view(basis.shape).mT
    return kind(process, shape, log_weights.log_softmax(0), modes(process, means), basis, variances)


def _decompose(
    covariances: Sequence[Tensor], shape: tuple[int, ...]
) -> tuple[Tensor | None, Tensor]:
    """(eigenvectors, eigenvalues), no eigenvectors if all are diagonal."""
    size = math.prod(shape)
    full = any(c.ndim == 2 and c.shape == (size, size) and c.shape != shape for c in covariances)
    wide = full or any(c.ndim > 0 for c in covariances)
    vectors, values = [], []
    for i, c in enumerate(covariances):
        if c.ndim == 0 or c.shape == shape:
            value = c.reshape(-1).expand(size if wide else 1)
            vector = torch.eye(size if full else 1, dtype=torch.float64, device=c.device)
        elif c.shape == (size, size):
            if not (c - c.T).abs().max() <= 1e-6 * c.abs().max():
                raise ValueError(f"covariances[{i}]: a covariance is not symmetric; expected one")
            value, vector = torch.linalg.eigh(0.5 * (c + c.T))
            # A semi-definite covariance is welcome.
            value = torch.where(value.abs() < 1e-12 * value.abs().max(), 0.0, value)
        else:
            raise ValueError(
                f"covariances[{i}]: a covariance has shape {tuple(c.shape)}; "
                f"expected a number, {shape} or {(size, size)}"
            )
        if not (value >= 0).all():
            raise ValueError(
                f"covariances[{i}]: a covariance has the negative variance "
                f"{value.min().item():.3g}; expected a positive semi-definite one"
            )
        vectors.append(vector)
        values.append(value)
    return torch.stack(vectors) if full else None, torch.stack(values)
