"""A pipeline as a denoiser: its own loop, with its guidance and conditioning, is the network
call."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from torch import Tensor

from ...denoiser import Denoiser
from ...network import Times
from ...processes import Level
from ...processes import Levels as Each
from .conversation import Conversation, Puppet
from .levels import Levels
from .read import read
from .scheduler import FlowsolveScheduler


@dataclass(frozen=True, eq=False)
class Piped(Denoiser):
    """A pipeline as a denoiser, see :func:`denoiser`.

    Attributes:
        start: the latents the pipeline would begin with, (n, *shape).
        levels: the grid of the levels its own scheduler takes.

    Examples:
        >>> from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
        >>> blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
        >>> net = UNet2DModel(8, 1, 1, block_out_channels=(32,), **blocks)
        >>> pipe = DDPMPipeline(net, DDPMScheduler())
        >>> pipe.set_progress_bar_config(disable=True)
        >>> with flowsolve.integrations.diffusers.denoiser(pipe, batch_size=2) as model:
        ...     model.start.shape, model.whole
        (torch.Size([2, 1, 8, 8]), 2)
    """

    _: KW_ONLY
    start: Tensor
    levels: Levels

    @property
    def whole(self) -> int:  # type: ignore[override]
        """The pipeline was called for so many."""
        return len(self.start)

    def evaluate_both(
        self, x: Tensor, level: Level, times: Times | None = None
    ) -> tuple[Tensor, Tensor | None]:
        if isinstance(level, Each):
            raise ValueError(
                "a pipeline has one time for its whole batch; expected a solver that steps all "
                "samples together, such as a fixed-step one or 'dopri5', or one sample"
            )
        if torch.is_grad_enabled() and x.requires_grad:
            raise ValueError(
                "a pipeline computes without gradients, and its answer has no gradient with "
                "respect to the state; expected the network itself, wrap(net, scheduler) with its "
                "pipe.unet or pipe.transformer, for what needs gradients"
            )
        return super().evaluate_both(x, level, times)


@contextlib.contextmanager
def denoiser(pipe: Any, **call: Any) -> Iterator[Piped]:
    """A pipeline of diffusers as a :class:`~flowsolve.Denoiser`, on its latents::

        with denoiser(pipe, prompt="a red fox", guidance_scale=5.0) as model:
            print(flowsolve.compare(model, nfe=(5, 8, 12)))
            x = flowsolve.sample(model, solver="unipc3", nfe=8, seed=0)

    Guidance, embeddings, packing and whatever else its loop does are in the network call, so that
    an evaluation costs what a step of the pipeline costs. One more is spent at the beginning, to
    find out what its latents are: they are ``model.start``. Meanwhile the pipeline has another
    scheduler; it cannot be called, or used by a second thread.

    Args:
        pipe: a pipeline whose scheduler states a process, see :func:`read`.
        **call: its call's arguments, without ``num_inference_steps`` and ``output_type``. It is
            called for as many samples as they say, and so is the denoiser.

    Returns:
        A context, in which it is the denoiser of latents (n, *shape).

    Raises:
        TypeError, ValueError: for what is no pipeline, and a scheduler without a process. What the
            pipeline raises reaches whoever asked.

    Examples:
        >>> from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
        >>> blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
        >>> net = UNet2DModel(8, 1, 1, block_out_channels=(32,), **blocks)
        >>> pipe = DDPMPipeline(net, DDPMScheduler())
        >>> pipe.set_progress_bar_config(disable=True)
        >>> with flowsolve.integrations.diffusers.denoiser(pipe, batch_size=2) as model:
        ...     x = flowsolve.sample(model, solver="unipc3", nfe=2, seed=0)
        >>> x.shape
        torch.Size([2, 1, 8, 8])
    """
    base = getattr(pipe, "scheduler", None)
    if base is None or not hasattr(pipe, "set_progress_bar_config"):
        raise TypeError(f"pipe is a {type(pipe).__name__}; expected a pipeline of diffusers")
    for name in ("num_inference_steps", "output_type", "timesteps", "sigmas"):
        if name in call:
            raise ValueError(
                f"{name}={call[name]!r}: a solver says how often the network is asked, and gets "
                f"latents; expected the call without {name}"
            )
    convention = read(base)
    how = {**call, "num_inference_steps": 1, "output_type": "latent"}
    bars = getattr(pipe, "_progress_bar_config", {})
    conversation = Conversation(pipe, how, convention)
    pipe.scheduler = Puppet(conversation, base)
    try:
        pipe.set_progress_bar_config(**{**bars, "disable": True})
        start = conversation.begin()
        yield _piped(conversation, start, base)
    finally:
        conversation.end()
        pipe.scheduler = base
        pipe.set_progress_bar_config(**bars)


def _piped(conversation: Conversation, start: Tensor, base: Any) -> Piped:
    convention, n, channels = conversation.convention, len(start), start.shape[1]

    def net(x: Tensor, t: Tensor, row: Tensor) -> Tensor:
        if len(x) != n:
            raise ValueError(
                f"n={len(x)}: the pipeline was called for {n} samples; expected n={n}, without "
                "batch_size, or another call of denoiser(...)"
            )
        return convention.said(conversation.ask(x, t[0]), channels)

    rows = torch.arange(n, device=start.device)
    base = base.base if isinstance(base, FlowsolveScheduler) else base
    return Piped(
        net,
        convention.process_of(base.config, conversation.mu),
        convention.predicts,
        tuple(start.shape[1:]),
        time=convention.clock.told,
        dtype=start.dtype,
        correct_x0=convention.correct_x0,
        conditioning={"row": rows},
        per_sample=("row",),
        start=start.to(torch.promote_types(start.dtype, torch.float32)),
        levels=Levels(base, conversation.sigmas, mu=conversation.mu),
    )
