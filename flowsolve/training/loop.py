"""The training loop: Adam, a warm-up and a cosine, an exponential average of the weights."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from ..checked import Count, Fraction, Must, Natural, OneSeed, checked
from ..denoiser import Denoiser
from ..errors import refused, shown
from ..run import progress_bar
from ..typing import Float, Int
from . import streams
from .checkpoints import Checkpoint, Reached, architecture, claimed, described, undivided
from .objectives import Loss, simple

#: Adam's steps are about as long, in every weight.
Rate = Annotated[float, Must(lambda v: 0.0 < v <= 1e3, "a positive number, at most 1000")]
#: Samples that there can be at a time.
Size = Annotated[int, Must(lambda v: 1 <= v < 2**31, "a positive integer below 2**31")]
#: A number that may be infinite, which sets no bound.
Unbounded = Annotated[float, Must(lambda v: v > 0.0, "a positive number, or inf", infinite=True)]


class Trained(NamedTuple):
    """What :func:`train` returns: the model with the averaged weights, steps and seconds spent, and
    each step's loss (steps,)."""

    model: Denoiser
    steps: int
    seconds: float
    losses: Float[Tensor, "steps"]


@checked
def train(
    model: Denoiser,
    data: Float[Tensor, "N *shape"],
    *,
    labels: Int[Tensor, "N"] | None = None,
    null: Natural | None = None,
    drop: Fraction = 0.1,
    loss: Loss = simple,
    steps: Count = 10_000,
    seconds: Unbounded = math.inf,
    batch_size: Size = 128,
    lr: Rate = 2e-3,
    warmup: Count = 100,
    ema: Fraction = 0.999,
    clip: Unbounded = 1.0,
    seed: OneSeed = 0,
    checkpoint: os.PathLike[str] | str | None = None,
    save_every: Count = 500,
    resume: bool = True,
    progress: bool = False,
) -> Trained:
    """Train ``model.net`` with Adam, in place, and return a copy with an exponential average of the
    weights.

    Every step's batch, times, noise and dropout depend on (seed, step) alone, so on one machine and
    number of threads the same seed gives the same weights, and a run that was killed and resumed
    gives those of one that was not, to the bit (except with ``seconds``, on which the learning rate
    then depends). torch's global generator is as it was afterwards; only what the network and the
    loss draw themselves, such as dropout, comes from it, and in threads may differ.

    Args:
        model: its net is a ``torch.nn.Module``. Times are uniform in the process's t (for EDM, ln σ
            ~ N(−1.2, 1.2²)).
        data: (N, *shape), where the net is, finite.
        labels: (N,), given to the net as ``label``, replaced by ``null`` with probability ``drop``.
        loss: see :data:`~flowsolve.training.objectives.Loss`; for example :func:`simple`, or
            ``functools.partial(simple, on="eps")``.
        steps, seconds: whichever is used up first ends the run, and the cosine of the learning rate
            with it.
        lr: the learning rate after ``warmup`` steps of linear growth.
        ema: the average's decay; over the first steps it is less, (1 + k)/(10 + k).
        clip: the gradient's greatest norm.
        checkpoint: a file, replaced (never half written) every ``save_every`` steps, at the end and
            when the run is interrupted, continued from if it exists and ``resume``. While a run
            goes on, no other can have the same one.
        progress: show a progress bar (tqdm).

    Returns:
        The model with the averaged weights, and what was spent; ``model.net`` has the last ones.

    Raises:
        TypeError, ValueError: before the first step, for arguments that do not fit together, and
            for a checkpoint that cannot be written, is damaged, has another run at it, or is of a
            run with other arguments, data, labels or another network (a loss or a ``time`` is known
            by its name).
        RuntimeError: if the gradient is not finite; the last checkpoint is as it was.
    """
    weights = _trainable(model)
    _check(model, data, labels, null, drop)
    net: Any = model.net
    run = {
        "steps": steps, "seconds": seconds, "batch_size": batch_size, "lr": lr, "warmup": warmup,
        "ema": ema, "clip": clip, "seed": seed, "drop": drop, "null": null,
    }  # fmt: skip
    plain = replace(model, correct_x0=None)
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        file = None if checkpoint is None else claimed(Path(checkpoint), stack)
        if file is not None:
            run |= {
                "process": described(model.process),
                "predicts": described(model.parametrization),
                "time": described(model.time),
                "dtype": described((model.dtype, model.time_dtype)),
                "variance": model.variance,
                "conditioning": described(model.conditioning),
                "network": architecture(net),
                "loss": described(loss),
                "data": described(data),
                "labels": described(labels),
            }
        with torch.device("cpu"):  # whatever the default: Adam's and the average's own numbers
            optimizer = torch.optim.Adam(weights, lr=lr, betas=(0.9, 0.99))
            average = AveragedModel(net, multi_avg_fn=_decaying(ema)).eval()
        average.update_parameters(net)  # the first update copies; from here on it counts steps
        record = Checkpoint(file, run, (net, average, optimizer))
        k, spent, losses = record.load(data.device) if resume else Reached()
        losses = [*losses]
        given = None if labels is None else (labels, null or 0, drop)
        bar = progress_bar(progress, None if math.isfinite(seconds) else steps, "step", k)
        stack.enter_context(bar or contextlib.nullcontext())
        begin = time.monotonic() - spent

        def done(k: int) -> float:
            return max(k / steps, (time.monotonic() - begin) / seconds)

        def reached() -> Reached:
            return Reached(k, time.monotonic() - begin, losses)

        schedule = LambdaLR(
            optimizer,
            lambda k: min(1.0, (k + 1) / warmup) * 0.5 * (1.0 + math.cos(math.pi * done(k))),
            last_epoch=k - 1,
        )
        net.train()
        lent = stack.enter_context(streams.borrowed(data.device))
        before: list[Tensor] = []  # the network's buffers, which its evaluation may change
        try:
            while done(k) < 1.0:
                if file is not None:
                    before = [buffer.clone() for buffer in net.buffers()]
                batch = streams.batch(plain, data, given, batch_size, (seed, k), lent)
                value = loss(*batch)
                if not (isinstance(value, Tensor) and value.requires_grad and value.numel()):
                    raise TypeError(
                        f"loss returned {shown(value)}; expected a tensor of numbers that depend "
                        "on the weights, one for each of the batch"
                    )
                value = value.mean()
                optimizer.zero_grad()
                value.backward()
                torch.nn.utils.clip_grad_norm_(weights, clip, error_if_nonfinite=True)
                with undivided(), torch.device("cpu"):
                    optimizer.step()
                    schedule.step()
                    average.update_parameters(net)
                    before, k = [], k + 1
                    losses.append(value.detach())
                    if k % save_every == 0:
                        record.save(reached())
                if bar is not None:
                    bar.update()
        except BaseException as error:
            if not isinstance(error, Exception):  # Ctrl-C: the last step that was finished stays
                with torch.no_grad():
                    for buffer, was in zip(net.buffers(), before, strict=False):
                        buffer.copy_(was)
                record.save(reached())
            raise
        record.save(reached())
        net.eval()
        return Trained(
            replace(model, net=average.module.requires_grad_(False)),
            k,
            time.monotonic() - begin,
            torch.tensor([float(v) for v in losses], dtype=torch.float32, device="cpu"),
        )


def _trainable(model: Denoiser) -> list[torch.nn.Parameter]:
    """The weights to be trained."""
    if not isinstance(model.net, torch.nn.Module):
        raise TypeError(
            f"model.net is a {type(model.net).__name__}; expected a torch.nn.Module, to be trained"
        )
    weights = [p for p in model.net.parameters() if p.requires_grad]
    if not weights or any(p.is_inference() or p.is_meta for p in weights):
        has = "weights made under torch.inference_mode() or without values" if weights else "none"
        raise ValueError(
            f"model.net has {has}; expected weights that can be trained (requires_grad)"
        )
    return weights


def _check(
    model: Denoiser, data: Tensor, labels: Tensor | None, null: int | None, drop: float
) -> None:
    shape = f"(N, {', '.join(map(str, model.data_shape))})"
    if data.ndim == 0 or data.shape[1:] != model.data_shape or len(data) == 0:
        raise ValueError(f"data has shape {tuple(data.shape)}; expected {shape}")
    expected = f"finite floating-point numbers, {shape}"
    if not data.is_floating_point():
        raise TypeError(refused("data", data, expected))
    if model.device is not None and data.device != model.device:
        raise ValueError(
            f"data is on {data.device}, the network on {model.device}; move one to the other"
        )
    if data.is_meta or not data.isfinite().all():
        raise ValueError(f"data has NaN, Inf or no values; expected {expected}")
    if labels is None:
        return
    if labels.shape != (len(data),) or labels.is_meta or (drop > 0 and null is None):
        raise ValueError(
            f"labels has shape {tuple(labels.shape)}, null={null!r}; "
            f"expected ({len(data)},) and, if drop > 0, the null class"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(refused("labels", labels, f"integers, ({len(data)},)"))


def _decaying(ema: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Any], None]:
    """After k steps: average ← d average + (1 − d) weights, d = min(ema, (1 + k)/(10 + k))."""

    def update(average: Sequence[Tensor], weights: Sequence[Tensor], steps: Any) -> None:
        k = int(steps)
        for mine, theirs in zip(average, weights, strict=True):
            mine.lerp_(theirs, 1.0 - min(ema, (1 + k) / (10 + k)))

    return update
