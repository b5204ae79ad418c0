r"""Critically-damped Langevin diffusion: data are positions, and noise reaches them through
velocities only.

.. math:: F = \beta\begin{pmatrix}0 & M^{-1}\\ -1 & -\Gamma M^{-1}\end{pmatrix},\qquad
   GG^T = \begin{pmatrix}0 & 0\\ 0 & 2\Gamma\beta\end{pmatrix},\qquad \Gamma = 2\sqrt M

(arXiv 2112.07068). In :math:`y = v/\sqrt M` and :math:`u = \beta t/\sqrt M` everything has a closed
form but for one angle: the root that gDDIM needs, :math:`R' = FR + \tfrac12GG^TR^{-T}` (arXiv
2206.05564, eq. 17), is the Cholesky factor of the covariance S times a rotation by θ with

.. math:: \frac{d\theta}{du} = \frac{\sqrt{\det S}}{S_{xx}} .
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from ..caching import table
from ..checked import Positive, checked
from ..errors import refused
from ..operators import Block
from ..readers import Must
from ..typing import Float
from .levels import Level
from .matrix import MatrixProcess

_GAUSS = np.polynomial.legendre.leggauss(24)
#: Length of the substeps, in max(1, λ²) (u + ln u), in which Q is integrated for λ other than 0 and
#: 1. Errors are below 1e-10.
SUBSTEP = 0.05
Noisy = Annotated[float, Must(lambda v: 0.0 <= v <= 30.0, "a number from 0 to 30")]
Variance = Annotated[float, Must(lambda v: 0.0 <= v <= 1e100, "a number >= 0")]


@checked
@dataclass(frozen=True)
class CLD(MatrixProcess[Block]):
    """Critically-damped Langevin diffusion. A state has twice the channels of the data: all
    positions, then all velocities.

    Clean velocities are N(0, γM), part of the noise: hybrid score matching (arXiv 2112.07068,
    section 3.2).

    Attributes:
        beta: the rate β.
        inverse_mass: M⁻¹.
        gamma: the variance of clean velocities in units of M.
        c0: a variance of clean positions that counts as noise, 0 here and 1e-6 (with γ = 0.04 +
            4e-6) in the CLD authors' released code. It does not change what is sampled by more than
            itself, but the root R at c0 > 0 is turned by 1.32 against that at c0 = 0, and a network
            that predicts ε has learnt one of the two.

    Examples:
        >>> process = flowsolve.CLD()
        >>> process.state_shape((3, 8, 8)), process.level(0.5).A.entries.shape
        ((6, 8, 8), (2, 2))
    """

    beta: Positive = 4.0
    inverse_mass: Positive = 4.0
    gamma: Variance = 0.04
    c0: Variance = 0.0

    def __post_init__(self) -> None:
        if self.gamma == self.c0 == 0.0:
            raise ValueError(
                "gamma=0 and c0=0: expected one of them positive, clean states without any noise "
                "have no finite eps"
            )
        if not (1e-30 <= self._rate <= 700.0):
            left = "signal" if self._rate > 1.0 else "noise"
            raise ValueError(
                f"beta={self.beta!r}, inverse_mass={self.inverse_mass!r}: there is no {left} at "
                "t=1; expected numbers such as 4 and 4"
            )

    @property
    def _rate(self) -> float:
        """du/dt."""
        return self.beta * math.sqrt(self.inverse_mass)

    def operators(self, t: float) -> tuple[Block, Block]:
        return _operators(self, t)

    @checked
    def rates(self, level: Level) -> tuple[Block, Block]:
        if level.R.singular:
            raise ValueError(
                f"dR/dt is infinite at {level}; end the run at a later t, or on clean data"
            )
        f = Block(
            0.0,
            self.beta * self.inverse_mass,
            -self.beta,
            -2.0 * self.beta * math.sqrt(self.inverse_mass),
        )
        half_gg = Block(
            0.0, 0.0, 0.0, 2.0 * self.beta / math.sqrt(self.inverse_mass)
        )  # Γβ, Γ = 2√M
        A: Any = level.A
        R: Any = level.R
        return f @ A, f @ R + half_gg @ R.inverse().T

    @checked
    def bridge(self, s: Level, t: Level, lam: Noisy) -> Block:
        R: Any = t.R
        if lam == 0.0 or s == t:
            return R
        if lam == 1.0:
            return R @ (s.R.inverse() @ (s.A @ t.A.inverse()) @ R).T
        return R @ Block.of(_q(self, self._rate * s.t, max(1e-12, self._rate * t.t), lam))

    def label(self, level: Level) -> float:
        return 999.0 * level.t  # as in the authors' code

    @checked
    def prior(self, level: Level) -> Block:
        return Block(1.0, 0.0, 0.0, 1.0 / math.sqrt(self.inverse_mass))

    @checked
    def state_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if not shape:
            raise ValueError("shape=(): expected that of data with channels, such as (3, 32, 32)")
        return (2 * shape[0], *shape[1:])

    @checked
    def state(self, x0: Float[Tensor, "n *shape"]) -> Float[Tensor, "n *state"]:
        if x0.ndim < 2:
            raise ValueError(refused("x0", x0, "data (n, channels, ...)"))
        return torch.cat([x0, torch.zeros_like(x0)], 1)

    @checked
    def data(self, x: Float[Tensor, "n *state"]) -> Float[Tensor, "n *shape"]:
        if x.ndim < 2 or x.shape[1] % 2:
            raise ValueError(refused("x", x, "states (n, 2 * channels, ...)"))
        return x[:, : x.shape[1] // 2]


@table
@lru_cache(maxsize=4096)
def _operators(process: CLD, t: float) -> tuple[Block, Block]:
    u, mass = process._rate * t, math.sqrt(1.0 / process.inverse_mass)
    e = math.exp(-u)
    sxx, sxy, _, det = (float(v) for v in _covariance(process, np.array(u)))
    # From (x, y) to (x, v): the rows of v, and A's columns, are scaled.
    A = Block(e * (1.0 + u), e * u / mass, -e * u * mass, e * (1.0 - u))
    if sxx == 0.0:  # the limit of what follows
        return A, Block(0.0, 0.0, 0.0, math.sqrt(process.gamma) * mass)
    c, s = math.cos(theta := float(_angle(process, np.array(u)))), math.sin(theta)
    l11, l21, l22 = math.sqrt(sxx), sxy / math.sqrt(sxx), math.sqrt(det / sxx)
    return A, Block(l11 * c, l11 * s, (l21 * c - l22 * s) * mass, (l21 * s + l22 * c) * mass)


def _covariance(
    process: CLD, u: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(S_xx, S_xy, S_yy, det S) at u, in (x, y); the determinant as a sum of what does not
    cancel."""
    from scipy.special import gammainc  # slow to import: only for those who use it

    c0, gamma = process.c0, process.gamma
    e, p = np.exp(-2.0 * u), gammainc(3.0, 2.0 * u)
    nxy, nyy = 2.0 * u**2 * e, p + 4.0 * u * e
    sxx = p + e * (c0 * (1.0 + u) ** 2 + gamma * u**2)
    sxy = nxy + e * (gamma * u * (1.0 - u) - c0 * u * (1.0 + u))
    syy = nyy + e * (c0 * u**2 + gamma * (1.0 - u) ** 2)
    det = p * p + 4.0 * u * e * p - 4.0 * u**4 * e * e
    det = det + c0 * e * ((1.0 + u) ** 2 * nyy + u**2 * p + 2.0 * u * (1.0 + u) * nxy)
    det = (
        det + gamma * e * (p * (1.0 - 2.0 * u + 2.0 * u * u) + 4.0 * u**4 * e) + c0 * gamma * e * e
    )
    return sxx, sxy, syy, det


def _angle(process: CLD, u: np.ndarray) -> np.ndarray:
    """θ(u). In z = √u its derivative is smooth; the panels grow geometrically, as the scales on
    which it varies do."""
    z = np.sqrt(np.maximum(u, 1e-300))[..., None]
    first = np.minimum(1e-3, z)
    edges = np.concatenate([np.zeros_like(z), first * (z / first) ** np.linspace(0.0, 1.0, 12)], -1)
    half = 0.5 * np.diff(edges)[..., None]
    nodes = edges[..., :-1, None] + half * (1.0 + _GAUSS[0])
    sxx, _, _, det = _covariance(process, nodes**2)
    start = 0.0 if process.c0 > 0.0 else 0.5 * math.pi
    return start + (half * _GAUSS[1] * 2.0 * nodes * np.sqrt(det) / sxx).sum((-1, -2))


@table
@lru_cache(maxsize=4096)
def _q(process: CLD, noisy: float, quiet: float, lam: float) -> np.ndarray:
    """Q from u = noisy to quiet, dQ/du = (λ²/2)(…)Q, by Magnus' expansion to order six in w = u +
    ln u."""
    from scipy.linalg import expm  # slow to import: only for those who use it
    from scipy.special import lambertw

    start, end = (u + math.log(u) for u in (noisy, quiet))
    w = np.linspace(start, end, 1 + math.ceil(abs(end - start) * max(1.0, lam * lam) / SUBSTEP))
    h = w[1] - w[0]
    # The nodes of Gauss's formula of order six; at u + ln u = w the u is Lambert's W(eʷ).
    u = lambertw(
        np.exp([0.5 * (w[1:] + w[:-1]) + c * h for c in (-math.sqrt(0.15), 0.0, math.sqrt(0.15))])
    ).real
    first, middle, last = (
        0.5 * lam * lam * h * (u / (1.0 + u))[..., None, None] * _generator(process, u)
    )
    b1, b2, b3 = (
        middle,
        math.sqrt(15.0) / 3.0 * (last - first),
        10.0 / 3.0 * (last - 2.0 * middle + first),
    )
    c1 = _bracket(b1, b2)
    c2 = -_bracket(b1, 2.0 * b3 + c1) / 60.0
    omega = b1 + b3 / 12.0 + _bracket(-20.0 * b1 - b3 + c1, b2 + c2) / 240.0
    return reduce(lambda q, step: step @ q, expm(omega), np.eye(2))


def _generator(process: CLD, u: np.ndarray) -> np.ndarray:
    """R⁻¹GGᵀR⁻ᵀ dt/du = (4 S_xx/det S) nnᵀ with n = (−sin θ, cos θ), (*u.shape, 2, 2)."""
    sxx, _, _, det = _covariance(process, u)
    theta = _angle(process, u)
    n = np.stack([-np.sin(theta), np.cos(theta)], -1)
    return (4.0 * sxx / det)[..., None, None] * n[..., None] * n[..., None, :]


def _bracket(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a @ b - b @ a
