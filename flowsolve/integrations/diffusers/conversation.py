"""A pipeline's loop in a thread of its own, which is handed states and times as a solver wants them
and hands back what it would give to its scheduler."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, FrozenDict
from diffusers.schedulers.scheduling_utils import SchedulerMixin, SchedulerOutput
from torch import Tensor

from .levels import floats
from .read import Convention

#: What the loop is asked; None ends it.
Question = tuple[Tensor, Tensor] | None
#: What the thread is called.
NAME = "flowsolve: a pipeline's loop"


class _End(BaseException):
    """Ends a pipeline's loop from inside: no pipeline catches it."""


class Conversation:
    """A pipeline's loop in its thread, which is asked and answers."""

    def __init__(self, pipe: Any, call: Mapping[str, Any], convention: Convention) -> None:
        self.pipe, self.call, self.convention = pipe, call, convention
        self.questions: queue.Queue[Question] = queue.Queue()
        self.answers: queue.Queue[Tensor | BaseException] = queue.Queue()
        self.thread: threading.Thread | None = None
        # What the call gives its scheduler, besides a number of steps.
        self.mu: float | None = None
        self.sigmas: tuple[float, ...] | None = None
        process = convention.process
        first = process.start if not process.start.pure_noise else process.level(0.9)
        self.time = torch.tensor(convention.clock.told(first), device="cpu")

    def begin(self) -> Tensor:
        """Run up to the first step; the latents there. The network's answer for them is left
        out, since nobody asked for it."""
        self.thread = threading.Thread(target=self._run, name=NAME, daemon=True)
        self.thread.start()
        return self._answered()

    def ask(self, x: Tensor, time: Tensor) -> Tensor:
        if self.thread is None:
            self.begin()
        self.questions.put((x, time))
        return self._answered()

    def end(self) -> None:
        if self.thread is not None:
            self.questions.put(None)
            self.thread.join()
            self.thread = None

    def _answered(self) -> Tensor:
        try:
            answer = self.answers.get()
        except BaseException:  # Ctrl-C: what the loop still says is nobody's answer
            self.end()
            self.answers = queue.Queue()
            raise
        if isinstance(answer, BaseException):
            assert self.thread is not None
            self.thread.join()
            self.thread = None
            raise answer
        return answer

    def _run(self) -> None:
        try:
            self.pipe(**self.call)
            raise RuntimeError("the pipeline ended its loop by itself; expected it to go on")
        except _End:
            pass
        except BaseException as error:
            self.answers.put(error)

    def step(self, out: Tensor, sample: Tensor) -> Tensor:
        """What the loop calls: hands over the answer and waits for the next state."""
        begun = self.pipe.scheduler.begun
        self.pipe.scheduler.begun = True
        self.answers.put(out if begun else sample.clone())
        question = self.questions.get()
        if question is None:
            raise _End
        x, self.time = question
        return x.to(sample.dtype)


class _Times:
    """The timesteps of a loop: each the one that is asked for."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            yield self.conversation.time

    def __getitem__(self, key: Any) -> Tensor:
        time = self.conversation.time
        return time[None] if isinstance(key, slice) else time


class Puppet(SchedulerMixin, ConfigMixin):
    """The scheduler that a pipeline has meanwhile."""

    order, begun = 1, False

    def __init__(self, conversation: Conversation, base: Any) -> None:
        self._internal_dict = FrozenDict(dict(base.config))
        self._conversation = conversation
        process = conversation.convention.process
        scaled = process.entries is None and not conversation.convention.flow
        self.init_noise_sigma = float(process.start.R.value**2 + 1.0) ** 0.5 if scaled else 1.0
        self.timesteps = self.sigmas = _Times(conversation)

    def __len__(self) -> int:
        return int(self.config.get("num_train_timesteps", 1000))

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        timesteps: Any = None,
        sigmas: Any = None,
        mu: Any = None,
    ) -> None:
        self.begun, self.num_inference_steps = False, 1
        conversation = self._conversation
        conversation.mu = None if mu is None else float(mu)
        conversation.sigmas = floats(sigmas)
        conversation.time = conversation.time.to(device)

    def set_begin_index(self, begin_index: int = 0) -> None:
        pass

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        return sample  # a denoiser scales it

    def step(
        self,
        model_output: Tensor,
        timestep: Any,
        sample: Tensor,
        generator: Any = None,
        return_dict: bool = True,
    ) -> Any:
        x = self._conversation.step(model_output, sample)
        return SchedulerOutput(x) if return_dict else (x,)
