"""The levels a diffusers scheduler takes, as a grid: by asking it, so that its spacing, offsets,
shifts, Karras's and other sigmas, and whatever it is told at a call, mean what they mean there."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ...checked import checked
from ...grids import Grid
from ...grids.base import strictly_decreasing
from ...processes import Level, Process
from .classes import configuration
from .read import read

#: Configurations whose sigmas are not those of their timesteps.
BY_SIGMA = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas")


@checked
@dataclass(frozen=True, eq=False)
class Levels(Grid):
    """The levels that ``scheduler`` takes with n steps, and then clean data.

    Two are equal if their schedulers are of one class and configuration, and so is the rest.

    Attributes:
        scheduler: one of diffusers'; a copy is asked.
        sigmas, timesteps, mu: as its ``set_timesteps`` takes them. Of the sigmas that pipelines
            give by default, 1 − i/n, there are as many as steps; others are used as they are.
        final: "clean", or "base": the scheduler's own end, which with ``set_alpha_to_one=False``
            (Stable Diffusion's) or ``final_sigmas_type="sigma_min"`` is its first entry.

    Examples:
        >>> from diffusers import DDIMScheduler
        >>> from flowsolve.integrations.diffusers import Levels, read
        >>> scheduler = DDIMScheduler()
        >>> [level.t for level in Levels(scheduler).levels(read(scheduler).process, 4)]
        [750.0, 500.0, 250.0, 0.0, -1.0]
    """

    scheduler: Any
    sigmas: tuple[float, ...] | None = None
    timesteps: tuple[float, ...] | None = None
    mu: float | None = None
    final: str = "clean"
    _key: tuple[Any, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        read(self.scheduler)
        said = json.dumps(configuration(self.scheduler), sort_keys=True, default=_plain)
        key = (type(self.scheduler), said)
        object.__setattr__(self, "_key", key)
        object.__setattr__(self, "scheduler", copy.deepcopy(self.scheduler))

    def given(
        self, sigmas: Iterable[Any] | None, timesteps: Iterable[Any] | None, mu: Any
    ) -> Levels:
        """The same scheduler's, told this at a call."""
        told = copy.copy(self)
        for name, value in (("sigmas", floats(sigmas)), ("timesteps", floats(timesteps))):
            object.__setattr__(told, name, value)
        object.__setattr__(told, "mu", None if mu is None else float(mu))
        return told

    def _all(self) -> tuple[Any, ...]:
        return (*self._key, self.sigmas, self.timesteps, self.mu, self.final)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Levels) and self._all() == other._all()

    def __hash__(self) -> int:
        return hash(self._all())

    @property
    def own(self) -> bool:
        """Whether the caller chose the levels: not the scheduler, nor a pipeline by default."""
        return self.timesteps is not None or (self.sigmas is not None and not _default(self.sigmas))

    def levels(
        self, process: Process, n: int, start: Level | None = None, end: Level | None = None
    ) -> tuple[Level, ...]:
        if start is not None or end is not None:
            raise ValueError("these levels are a scheduler's: they have their own ends")
        base = self.asked(n)
        noisy = _noisy(base, process)
        if self.own and len(noisy) != n:
            name = "timesteps" if self.timesteps is not None else "sigmas"
            raise ValueError(
                f"{name} has {len(noisy)} levels with noise, but with as many evaluations this "
                f"solver makes {n} steps; expected {n} of them, another solver, or no {name}"
            )
        if self.final == "base" and not _ends_clean(base):
            quiet = process.level(process.t_min)
            return strictly_decreasing([*noisy, *[quiet] * (quiet.t < noisy[-1].t)])
        return strictly_decreasing([*noisy, process.clean])

    def asked(self, n: int) -> Any:
        """The scheduler after its set_timesteps for n steps."""
        base = copy.deepcopy(self.scheduler)
        given: dict[str, Any] = {}
        if self.timesteps is not None:
            given["timesteps"] = list(self.timesteps)
        elif self.sigmas is not None:
            given["sigmas"] = list(self.sigmas) if self.own else (1.0 - np.arange(n) / n).tolist()
        else:
            given["num_inference_steps"] = n
        if self.mu is not None:
            given["mu"] = self.mu
        takes = inspect.signature(base.set_timesteps).parameters
        if "sigmas" in given and "sigmas" not in takes:
            raise ValueError(
                f"sigmas: {type(base).__name__}, whose levels these are, takes none; expected "
                "num_inference_steps or timesteps"
            )
        if "timesteps" in given and "timesteps" not in takes:
            base.timesteps = torch.tensor(self.timesteps, dtype=torch.float64, device="cpu")
            return base
        if "mu" not in takes:
            given.pop("mu", None)
        with torch.device("cpu"):
            base.set_timesteps(**given, device="cpu")
        return base


def floats(values: Iterable[Any] | None) -> tuple[float, ...] | None:
    """Numbers of a list, an array or a tensor."""
    return None if values is None else tuple(float(v) for v in values)


def _noisy(base: Any, process: Process) -> list[Level]:
    """The levels at which the scheduler's steps begin."""
    sigmas = getattr(base, "sigmas", None)
    known = None if sigmas is None else _falling(sigmas.double().tolist())
    if process.entries is None:
        assert known is not None and sigmas is not None
        if base.config.get("invert_sigmas"):
            known = _falling([1.0 - s for s in sigmas.double().tolist()])
        return [process.level(min(s, process.t_max)) for s in known if s > 0.0]
    # PNDM repeats some of its times, to begin.
    told = torch.as_tensor(getattr(base, "_timesteps", base.timesteps)).double().tolist()
    times = _falling(told if told[0] > told[-1] else told[::-1])
    own = any(base.config.get(name) for name in BY_SIGMA)
    own = own or base.config.get("interpolation_type") == "log_linear"
    if known is not None:
        known = [s for s in known if s > 0.0]
        # Stages between the steps are told of, too.
        if own or len(known) < len(times):
            most = process.start.sigma
            return [process.level(process.time_of(min(s, most))) for s in known]
    return [process.level(t) for t in times]


def _falling(values: Sequence[float]) -> list[float]:
    """The values below all before them."""
    result: list[float] = []
    for value in values:
        if not result or value < result[-1]:
            result.append(value)
    return result


def _default(sigmas: Sequence[float]) -> bool:
    return bool(np.allclose(sigmas, 1.0 - np.arange(len(sigmas)) / len(sigmas), atol=1e-6))


def _ends_clean(base: Any) -> bool:
    config = base.config
    last = config.get("final_sigmas_type", "zero")
    return config.get("set_alpha_to_one", True) and last == "zero"


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
