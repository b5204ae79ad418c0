r"""Blurring diffusion: each frequency of a picture fades at its own rate, so that noise comes in
while detail goes out.

In the basis of the orthonormal cosine transform, with
:math:`\theta = \tfrac{t + 0.004}{1.008}\tfrac\pi2`,

.. math::
   A = \cos\theta\,\bigl(0.001 + 0.999\,e^{-\lambda\tau}\bigr),\qquad R = \sin\theta,\qquad
   \lambda_{ij} = \pi^2\Bigl(\frac{i^2}{H^2} + \frac{j^2}{W^2}\Bigr),\qquad
   \tau = \tfrac12\bigl(\sigma_\text{max}\sin^2\tfrac{\pi t}2\bigr)^2

(arXiv 2209.05557, section 4 and appendix A). At t = 0 there is noise still, R = 6.2e-3; clean data
are beyond it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any

import numpy as np

from ..checked import NonNegative, Part, checked
from ..operators import Diagonal
from ..readers import Must
from .levels import Level
from .matrix import MatrixProcess

#: What is left of the highest frequencies.
LEAST = 1e-3
Size = Annotated[
    tuple[int, int] | int,
    Must(
        lambda size: all(1 <= k <= 2**14 for k in np.atleast_1d(size)),
        "the height and width of the pictures, such as (32, 32)",
    ),
]
Width = Annotated[float, Must(lambda w: 0.0 <= w <= 1e100, "a number >= 0")]


@checked
@dataclass(frozen=True)
class Blurring(MatrixProcess[Diagonal]):
    """Blurring diffusion on pictures of one size (arXiv 2209.05557, section 4).

    Attributes:
        size: height and width of the pictures, a pair or one number for both.
        sigma_max: the largest width of the blur, in pixels.
        t_max: where runs start. At t = 1 almost nothing of the data is left, and the inverse of A
            is 8e4 and more.

    Examples:
        >>> process = flowsolve.Blurring(8)
        >>> A = process.level(0.5).A.entries
        >>> A.shape, bool(A[0, 0] > A[7, 7])  # what is fine fades first
        ((8, 8), True)
    """

    size: Size
    sigma_max: Width = 10.0
    t_max: Part = 0.996
    t_min: float = field(default=0.0, init=False)
    flows = True

    def __post_init__(self) -> None:
        if isinstance(self.size, int):
            object.__setattr__(self, "size", (self.size, self.size))

    @classmethod
    def examples(cls) -> dict[str, Blurring]:
        return {"blurring": cls((2, 3))}

    @cached_property
    def _decay(self) -> np.ndarray:
        """λ, (height, width)."""
        height, width = self.size  # type: ignore[misc]
        return np.pi**2 * (
            (np.arange(height)[:, None] / height) ** 2 + (np.arange(width) / width) ** 2
        )

    def _fading(self, t: float) -> tuple[np.ndarray, float]:
        """What is left of each frequency by the blur alone, and dτ/dt."""
        s = math.sin(0.5 * math.pi * t) ** 2
        fade = LEAST + (1.0 - LEAST) * np.exp(-self._decay * (0.5 * (self.sigma_max * s) ** 2))
        return fade, self.sigma_max**2 * s * 0.5 * math.pi * math.sin(math.pi * t)

    def operators(self, t: float) -> tuple[Diagonal, Diagonal]:
        theta = _angle(t)
        # cos θ = sin(π/2 − θ), which keeps its digits near t = 1.
        a = math.sin(0.5 * math.pi * (1.004 - t) / 1.008)
        return Diagonal(a * self._fading(t)[0]), Diagonal(
            np.full_like(self._decay, math.sin(theta))
        )

    @checked
    def rates(self, level: Level) -> tuple[Diagonal, Diagonal]:
        theta, turn = _angle(level.t), 0.5 * math.pi / 1.008
        fade, blur = self._fading(level.t)
        of_fade = -self._decay * blur * (fade - LEAST)
        return (
            Diagonal(-math.sin(theta) * turn * fade + math.cos(theta) * of_fade),
            Diagonal(np.full_like(fade, math.cos(theta) * turn)),
        )

    @checked
    def bridge(self, s: Level, t: Level, lam: NonNegative) -> Diagonal:
        R: Any = t.R
        ratio: Any = (t.R @ s.A) @ (s.R @ t.A).inverse()  # σ̄_t/σ̄_s of each frequency
        return Diagonal(R.value * ratio.value ** (lam * lam))

    def label(self, level: Level) -> float:
        return level.t

    @checked
    def prior(self, level: Level) -> Diagonal:
        return Diagonal(np.ones_like(self._decay))

    @checked
    def state_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        size: Any = self.size
        if len(shape) < 2 or shape[-2:] != size:
            raise ValueError(
                f"shape={shape}: {self!r} is for pictures of that size; expected (channels, "
                f"{size[0]}, {size[1]})"
            )
        return shape


def _angle(t: float) -> float:
    return 0.5 * math.pi * (t + 0.004) / 1.008
