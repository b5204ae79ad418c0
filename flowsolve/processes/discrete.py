"""VP through a table of β's, as released networks have."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, field

from ..checked import Count, checked
from ..operators import Operator, Scalar
from . import tables
from .levels import Level
from .scalar import ScalarProcess


@checked
@dataclass(frozen=True, repr=False)
class Discrete(ScalarProcess):
    """VP through a table of β's (arXiv 2006.11239): time is the index, 0 … T−1, with t = −1 the
    clean level (ᾱ = 1) as in the DDIM code.

    Between entries the angle atan σ̄ is linear in the index, which is finite at both ends, so a
    table that ends on pure noise (zero terminal SNR) needs no special case. At the entries the
    table is met exactly.

    Examples:
        >>> process = flowsolve.VP.discrete(flowsolve.processes.tables.linear())
        >>> process.entries, process.t_max, process.clean.t
        (1000, 999.0, -1.0)
    """

    betas: tuple[float, ...]
    _angles: tuple[tuple[float, ...], tuple[float, ...]] = field(
        init=False, repr=False, compare=False
    )
    _rising: tuple[float, ...] = field(init=False, repr=False, compare=False)
    t_min: float = field(default=0.0, init=False)
    t_clean: float = field(default=-1.0, init=False)
    grid = "trailing(power=2)"

    def __post_init__(self) -> None:
        integral, up, down = 0.0, [0.0], [0.5 * math.pi]
        for i, beta in enumerate(tables.check_betas(self.betas)):
            integral = math.inf if beta == 1.0 else integral - math.log1p(-beta)
            a, r = math.exp(-0.5 * integral), math.sqrt(-math.expm1(-integral))
            up.append(math.atan2(r, a))
            down.append(math.atan2(a, r))
            if not (up[-1] > up[-2] if r <= a else down[-1] < down[-2]):
                raise ValueError(
                    f"betas[{i}]={beta!r}: expected every entry to have more noise than the one "
                    "before, and only the last to be pure noise; in float64 this one has not"
                )
        object.__setattr__(self, "_angles", (tuple(up), tuple(down)))
        object.__setattr__(self, "_rising", tuple(-a for a in down))

    @classmethod
    def examples(cls) -> dict[str, Discrete]:
        return {
            "discrete": cls(tuple(tables.linear())),
            "zero_terminal_snr": cls(
                tuple(tables.zero_terminal_snr(tables.scaled_linear())),
            ),
        }

    def __repr__(self) -> str:
        return f"Discrete({len(self.betas)} betas from {self.betas[0]:.4g} to {self.betas[-1]:.4g})"

    @property
    def entries(self) -> int:  # type: ignore[override]
        return len(self.betas)

    @property
    def t_max(self) -> float:  # type: ignore[override]
        return len(self.betas) - 1.0

    def signal_and_noise(self, t: float) -> tuple[float, float]:
        i = self._index(t)
        w = t + 1.0 - i
        up, down = ((1.0 - w) * angles[i] + w * angles[i + 1] for angles in self._angles)
        return math.sin(down), math.sin(up)

    def signal_and_noise_rates(self, t: float) -> tuple[float, float]:
        (a, r), i = self.signal_and_noise(t), self._index(t)
        turn = self._angles[0][i + 1] - self._angles[0][i]
        return -r * turn, a * turn

    def _index(self, t: float) -> int:
        """The entry that ``t`` follows."""
        return min(int(t + 1.0), len(self.betas) - 1)

    def time_of(self, sigma: float) -> float:
        # From the clean end by the angle, from the noisy end by its complement: digits are kept at
        # both.
        if sigma <= 1.0:
            angles, x = self._angles[0], math.atan(sigma)
        else:
            angles, x = self._rising, -math.atan(1.0 / sigma)
        i = min(max(bisect.bisect_right(angles, x) - 1, 0), len(self.betas) - 1)
        return i - 1.0 + (x - angles[i]) / (angles[i + 1] - angles[i])

    @checked
    def grid_for(self, evaluations: Count) -> str:
        # Methods of several evaluations a step take fewer steps; the last noisy level is to be
        # about as quiet as with one. Measured (docs/benchmarks.md).
        return f"trailing(power={(3 + evaluations) / 2:g})"

    @checked
    def prior(self, level: Level) -> Operator:
        return Scalar(1.0)
