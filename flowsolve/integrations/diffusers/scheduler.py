"""Any fixed-step solver in any pipeline of diffusers: a plan, asked from outside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers.configuration_utils import ConfigMixin, FrozenDict, register_to_config
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers, SchedulerMixin
from torch import Tensor

from ...checked import read as argument
from ...errors import unknown
from ...network import Shape, times_of
from ...plans import Plan, Tuned
from ...plans.files import dumps
from ...plans.program import Evaluate
from .classes import class_of, configuration, name_of_class, parameters
from .laying import begins_with, check, lay_out, on_base
from .levels import Levels
from .read import read
from .stepping import Stepping

#: What a FlowsolveScheduler's configuration has besides that of the scheduler whose place it takes.
OWN = ("solver", "grid", "options", "final", "shape", "plan", "base_class")


class FlowsolveScheduler(Stepping, SchedulerMixin, ConfigMixin):
    """A solver of flowsolve in the place of a pipeline's scheduler::

        pipe.scheduler = FlowsolveScheduler.of(pipe.scheduler)                    # auto
        pipe.scheduler = FlowsolveScheduler.of(pipe.scheduler, solver="unipc3")   # on its levels

    ``num_inference_steps`` is the number of evaluations of the network, whatever the solver:
    ``timesteps[k]`` is what it is told at the k-th of them. Between steps the state is kept in
    float32 whatever the pipeline's dtype, unless the pipeline changes it. Noise comes from the
    pipeline's generators. One scheduler serves one loop at a time: threads take
    ``copy.copy(scheduler)`` each.

    Args:
        solver: the name of a fixed-step solver, or "auto".
        grid: the name of a grid, perhaps with options, or a decreasing list of times; by default
            "auto"'s own or, for other solvers, "base": the levels the pipeline's scheduler takes
            for as many steps. Sigmas and timesteps that a call gives come before both.
        options: the solver's, such as ``{"eta": 0.5}``.
        final: "clean", or "base", for where the scheduler ends; see :class:`Levels`.
        shape: of a sample of what the network sees, on whose size "auto" depends; without it that
            of a large picture's latents is taken.
        plan: the text of a plan's file, which is then all of the above.
        base_class: the scheduler whose place is taken, a class of diffusers.
        **base: its configuration.

    Examples:
        >>> from diffusers import DDIMScheduler
        >>> from flowsolve.integrations.diffusers import FlowsolveScheduler
        >>> scheduler = FlowsolveScheduler.of(DDIMScheduler(), solver="unipc3")
        >>> scheduler.set_timesteps(5)
        >>> scheduler.timesteps
        tensor([800, 600, 400, 200,   0])
    """

    order = 1
    _compatibles: ClassVar[list[str]] = [each.name for each in KarrasDiffusionSchedulers]

    @register_to_config
    def __init__(
        self,
        solver: str = "auto",
        grid: Any = None,
        options: dict[str, Any] | None = None,
        final: str = "clean",
        shape: Sequence[int] | None = None,
        plan: str | None = None,
        base_class: str = "DDIMScheduler",
        **base: Any,
    ) -> None:
        if final not in ("clean", "base"):
            raise ValueError(unknown("final", final, ("clean", "base")))
        for name, value, kinds in (("solver", solver, str), ("grid", grid, (str, list, tuple))):
            if value is not None and not isinstance(value, kinds):
                raise TypeError(
                    f"{name}={value!r}: expected a name, since a scheduler is saved as text, such "
                    "as 'unipc3' or 'karras(rho=5)'; options are keywords beside it"
                )
        cls = class_of(base_class)
        self.base: Any = cls(**{k: v for k, v in base.items() if k in parameters(cls)})
        self.convention = read(self.base)
        self.process = self.convention.process
        own = {key: self._internal_dict[key] for key in OWN}
        known = {**self._internal_dict, **configuration(self.base), **own}
        known.pop("base", None)  # the decorator takes **base for a name
        self._internal_dict = FrozenDict(known)
        check(self.convention, self.config)
        self._own = Levels(self.base, final=final)
        for name in ("betas", "alphas_cumprod"):  # which some pipelines read
            if hasattr(self.base, name):
                setattr(self, name, getattr(self.base, name))
        self.plan: Plan | None = None
        self.num_inference_steps: int | None = None
        self.timesteps: Tensor = self.base.timesteps
        self._clear()

    @classmethod
    def of(
        cls,
        scheduler: Any,
        solver: str = "auto",
        grid: Any = None,
        *,
        final: str = "clean",
        shape: Sequence[int] | None = None,
        plan: Plan | Tuned | None = None,
        **options: Any,
    ) -> FlowsolveScheduler:
        """In the place of ``scheduler``, a pipeline's, which is left as it is. Options are the
        solver's. A ``plan``, such as one that :func:`flowsolve.tune` fitted, is used as it is, by
        calls of as many steps as it has evaluations.

        Raises:
            TypeError, ValueError: for arguments that do not fit, and a scheduler that states no
                process flowsolve knows, see :func:`read`.
        """
        if isinstance(scheduler, cls):
            scheduler = scheduler.base
        convention, name = read(scheduler), name_of_class(type(scheduler))
        how: dict[str, Any] = {"solver": solver, "grid": grid, "final": final, "base_class": name}
        how["options"] = options or None
        how["shape"] = None if shape is None else list(argument("shape", shape, Shape))
        if plan is not None:
            plan = plan.plan if isinstance(plan, Tuned) else plan
            plan.check(convention.process)
            how["plan"] = dumps(plan.program)
        return cls(**{**configuration(scheduler), **how})

    @classmethod
    def from_config(
        cls, config: Any = None, return_unused_kwargs: bool = False, **kwargs: Any
    ) -> Any:
        """From a configuration: one's own, or that of another scheduler, as diffusers' schedulers
        take each other's.

        Raises:
            ValueError: for one that does not say which scheduler's it is.
        """
        if not isinstance(config, Mapping):
            raise TypeError(f"config is a {type(config).__name__}; expected a dictionary")
        given = {**config, **kwargs}
        name = given.get("_class_name")
        name = given.get("base_class") if name in (None, cls.__name__) else name
        if not isinstance(name, str):
            raise ValueError(
                "config does not name the class whose it is, on which its defaults depend; "
                "expected FlowsolveScheduler.of(pipe.scheduler)"
            )
        left = {k for k in config.get("_use_default_values", ()) if k not in kwargs}
        known = (*OWN, *parameters(class_of(name)))
        made = {k: v for k, v in given.items() if k in known and k not in left}
        self = cls(**{**made, "base_class": name})
        unused = {k: v for k, v in kwargs.items() if k not in known}
        return (self, unused) if return_unused_kwargs else self

    # What pipelines read

    @property
    def init_noise_sigma(self) -> float:
        """What standard normal noise is multiplied with to begin. Where the pipeline's scheduler
        has states x/A, as Euler's has, what it begins with."""
        first = self.process.start if self.plan is None else self.plan.levels[0]
        if self.process.entries is None:
            return 1.0 if self.convention.flow else math.hypot(first.R.value, 1.0)
        theirs = 1.0 if self._base is None else begins_with(self._base, len(self._levels))
        return theirs * first.A.value if theirs > 1.0 else 1.0

    @property
    def step_index(self) -> int | None:
        """The number of the evaluation whose answer the next step takes."""
        return self._step_index

    @property
    def begin_index(self) -> int | None:
        """Where a pipeline begins that does not begin with the first timestep."""
        return self._begin_index

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Begin with that evaluation, as image-to-image does."""
        self._begin_index = int(begin_index)

    def __len__(self) -> int:
        return int(self.config.get("num_train_timesteps", 1000))

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        timesteps: Sequence[float] | None = None,
        sigmas: Sequence[float] | None = None,
        mu: float | None = None,
    ) -> None:
        """Lay out a run of ``num_inference_steps`` evaluations; the rest as in the scheduler whose
        place is taken.

        Raises:
            ValueError: for more steps than the network was trained on levels, levels that the
                solver cannot spend as many evaluations on, and what that scheduler refuses.
        """
        self._clear()
        base = self._own.given(sigmas, timesteps, mu)
        self.plan = lay_out(self.convention, base, self.config, num_inference_steps)
        self._base = base if on_base(base, self.config) else None
        self._levels = tuple(i.level for i in self.plan.program if isinstance(i, Evaluate))
        told = [[self.convention.clock.told(level)] for level in self._levels]
        self._told = [float(t) for (t,) in told]
        self.timesteps = times_of(told, None, False, torch.device("cpu"))[:, 0].to(device)
        measure = (lambda level: level.t) if self.convention.flow else (lambda level: level.sigma)
        self.sigmas = torch.tensor(
            [measure(level) for level in (*self._levels, self.plan.levels[-1])],
            dtype=torch.float32,
            device="cpu",
        )
        self.num_inference_steps = len(self._levels)
