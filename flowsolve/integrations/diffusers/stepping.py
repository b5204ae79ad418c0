"""What a pipeline's loop calls: a step, and noise for the middle of a run."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers.schedulers.scheduling_utils import SchedulerOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from ...denoiser import Denoiser
from ...errors import warn
from ...operators import combine
from ...plans import Plan
from ...plans.push import Push
from ...processes import Level, Process
from .levels import Levels
from .read import Convention


@dataclass
class FlowsolveOutput(SchedulerOutput):
    """What a step gives: the state at which the network is asked next, in the dtype of the last
    answer, and the x̂0 of that answer.

    Examples:
        >>> from diffusers import DDIMScheduler
        >>> scheduler = flowsolve.integrations.diffusers.FlowsolveScheduler.of(DDIMScheduler())
        >>> scheduler.set_timesteps(5)
        >>> out = scheduler.step(torch.zeros(1, 4), scheduler.timesteps[0], torch.ones(1, 4))
        >>> out.prev_sample.shape, out.pred_original_sample.shape
        (torch.Size([1, 4]), torch.Size([1, 4]))
    """

    prev_sample: Tensor
    pred_original_sample: Tensor | None = None


class Stepping:
    """The half of :class:`FlowsolveScheduler` that runs."""

    convention: Convention
    process: Process
    plan: Plan | None

    def _clear(self) -> None:
        """Before any run."""
        self._levels: tuple[Level, ...] = ()
        self._told: list[float] = []
        self._base: Levels | None = None
        self._step_index: int | None = None
        self._begin_index: int | None = None
        self._push: Push | None = None
        self._returned: tuple[Tensor, int] | None = None
        self._owner: int | None = None

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """The state as the network takes it: for EDM's networks of unit size, else itself."""
        if self.convention.predicts.input_scale(self.process, self.process.start) is None:
            return sample
        if self.plan is None:
            level = self.convention.clock.level(float(timestep))
        else:
            level = self._levels[self._index(timestep)]
        wide = torch.promote_types(sample.dtype, torch.float32)
        return (sample.to(wide) * self.convention.scale(level)).to(sample.dtype)

    def step(
        self,
        model_output: Tensor,
        timestep: Any,
        sample: Tensor,
        generator: Any = None,
        return_dict: bool = True,
    ) -> Any:
        """Go on with the network's answer at ``timestep``.

        Args:
            model_output: the answer, (n, *shape), in any dtype; twice the channels where a variance
                is learned.
            timestep: what the network was told, one of ``timesteps``.
            sample: the state it was asked at. Unless it is the tensor that the step before
                returned, unchanged, it takes the place of the state that is kept.
            generator: for a solver that draws noise: a generator, or one for each sample.
            return_dict: whether to return a :class:`FlowsolveOutput`, or a tuple.

        Returns:
            ``prev_sample``, where the network is to be asked next; at the end, the result.

        Raises:
            ValueError: before set_timesteps, after the end, for a timestep that is none of the
                run's, and in a second thread.
            NonFiniteError: at the end, if the result is not finite.
        """
        k = self._index(timestep)
        if k == len(self._levels):
            raise ValueError(
                f"step: this run is at its end, after {k} evaluations; expected set_timesteps(...) "
                "before another"
            )
        self._generator = generator
        ours = self._returned is not None and self._returned[0] is sample
        ours = ours and self._returned is not None and self._returned[1] == sample._version
        self._check_thread(ours)
        if self._push is None:
            self._push = self._begun(k, model_output, sample)
        elif not ours:  # a mask or a callback changed it
            self._push.replace(sample)
        run, model = self._push, self._model
        out = model_output
        if model.variance is None:
            out = self.convention.said(out, sample.shape[1])
        x0 = _x0(model, run, out).to(out.dtype) if return_dict else None
        new = run.tell(out).to(out.dtype)
        self._step_index, self._returned = k + 1, (new, new._version)
        if run.done:
            self._push, self._owner = None, None
        return (new,) if x0 is None else FlowsolveOutput(new, x0)

    def _begun(self, k: int, out: Tensor, sample: Tensor) -> Push:
        """A run from evaluation k on: what came before never happened (img2img)."""
        assert self.plan is not None
        plan = self.plan.rest(k) if k else self.plan
        model = self.convention.denoiser(_elsewhere)
        if out.shape[1] == 2 * sample.shape[1] and self.convention.variance and plan.draws:
            if plan.program.ancestral is not None:
                model = replace(model, variance=self.convention.variance)
            else:
                warn(
                    "the network's learned variance is left out: this solver's noise is not that "
                    "of ancestral steps, as ddpm's and ddim's with eta are"
                )
        self._model = model

        def drawn(_: int) -> Tensor:
            own, like = self._generator, sample
            return randn_tensor(like.shape, generator=own, device=like.device, dtype=like.dtype)

        try:
            run = plan.push(model, start=sample, noise=drawn)
        except (TypeError, ValueError) as error:  # what is a run's start is a step's sample
            raise type(error)(str(error).replace("start ", "sample ", 1)) from None
        if run.level != plan.levels[0]:  # a solver that goes up first: the state is there already
            run.replace(sample)
        return run

    def _index(self, timestep: Any) -> int:
        """The number of the evaluation that is pending."""
        if self.plan is None:
            raise ValueError("step: expected set_timesteps(...) first")
        k = self._step_index
        if k is None:
            k = self._step_index = self._first(timestep)
        elif k < len(self._told) and not _on_device(timestep) and not self._is(k, float(timestep)):
            raise ValueError(
                f"timestep={float(timestep):g}: this run is at {self._told[k]:g}, its evaluation "
                f"{k} of {len(self._told)}; expected one scheduler for each loop "
                "(copy.copy(scheduler)), and set_timesteps(...) before another run"
            )
        return k

    def _first(self, timestep: Any) -> int:
        if self._begin_index is not None:
            if not 0 <= self._begin_index < len(self._told):
                raise ValueError(
                    f"begin_index={self._begin_index}: expected 0 to {len(self._told) - 1}"
                )
            return self._begin_index
        t = float(timestep)
        found = [k for k in range(len(self._told)) if self._is(k, t)]
        if not found:
            near = min(self._told, key=lambda told: abs(told - t))
            raise ValueError(
                f"timestep={t:g} is none of this run's; expected one of scheduler.timesteps, the "
                f"nearest of which is {near:g}"
            )
        return found[0]

    def _is(self, k: int, timestep: float) -> bool:
        """Whether a time, perhaps rounded to float32, is that of evaluation k."""
        told = self._told[k]
        return abs(told - timestep) <= 1e-5 * max(abs(told), 1e-3)

    def _check_thread(self, ours: bool) -> None:
        me = threading.get_ident()
        if self._owner not in (None, me) and not ours:
            raise ValueError(
                "step: another thread is in the middle of a run with this scheduler; expected one "
                "for each: copy.copy(scheduler)"
            )
        self._owner = me

    # Noise

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Any) -> Tensor:
        """A x0 + R ε on the levels of ``timesteps``, (n,) or one for all."""
        return self._noisy(original_samples, noise, timesteps)

    def scale_noise(
        self, sample: Tensor, timestep: Any = None, noise: Tensor | None = None
    ) -> Tensor:
        """:meth:`add_noise`, as flow pipelines call it."""
        if noise is None:
            raise ValueError("noise=None: expected standard normal noise in the sample's shape")
        return self._noisy(sample, noise, timestep)

    def _noisy(self, x0: Tensor, noise: Tensor, timesteps: Any) -> Tensor:
        found = self._levels_of(torch.as_tensor(timesteps).reshape(-1))
        values: Any = [[level.A.value, level.R.value] for level in found]  # type: ignore[attr-defined]
        a, r = torch.tensor(values, dtype=torch.float32, device=x0.device).T.reshape(
            2, -1, *[1] * (x0.ndim - 1)
        )
        wide = torch.promote_types(x0.dtype, torch.float32)
        return (a * x0.to(wide) + r * noise.to(wide)).to(x0.dtype)

    def _levels_of(self, timesteps: Tensor) -> list[Level]:
        k = self._begin_index if self._step_index is None else self._step_index
        if _on_device(timesteps) and self._levels and k is not None and k < len(self._levels):
            return [self._levels[k]] * len(timesteps)  # in a run, without waiting for the device
        asked = list(range(len(self._told)))
        result = []
        for t in timesteps.tolist():
            known = next((self._levels[k] for k in asked if self._is(k, t)), None)
            result.append(self.convention.clock.level(t) if known is None else known)
        return result


def _on_device(timestep: Any) -> bool:
    """Whether to look at a time is to wait for a device."""
    return isinstance(timestep, Tensor) and timestep.device.type != "cpu"


def _x0(model: Denoiser, run: Push, out: Tensor) -> Tensor:
    """The estimate of x0 that an answer means."""
    x = run.x
    answer, _ = model.output(out, x, run.level)
    return combine(model.linear(run.level).x0, (x, answer))


def _elsewhere(x: Tensor, t: Tensor) -> Tensor:
    raise ValueError("the network of this run is asked by a pipeline")
