"""The training loop::

    net = flowsolve.models.unet.UNet()
    model = flowsolve.Denoiser(net, flowsolve.VP.cosine(), predicts="v", shape=(1, 8, 8))
    trained = train(model, images, labels=labels, null=10, steps=3000, checkpoint="run.pt")
    x = flowsolve.sample(trained.model, nfe=20)

:mod:`flowsolve.objectives` has what it minimises.
"""

from __future__ import annotations

import copy
import math
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .denoiser import Denoiser
from .objectives import Bound, Loss, bound, gamma, l_gamma, simple
from .processes import EDM, Level, Process
from .run import progress_bar

__all__ = ["Bound", "Loss", "Trained", "bound", "gamma", "l_gamma", "simple", "train"]


class Trained(NamedTuple):
    """What :func:`train` returns: the model with the averaged weights, steps and seconds spent, and each step's loss (steps,)."""

    model: Denoiser
    steps: int
    seconds: float
    losses: Tensor


def train(
    model: Denoiser,
    data: Tensor,
    *,
    labels: Tensor | None = None,
    null: int | None = None,
    drop: float = 0.1,
    loss: Loss = simple,
    steps: int = 10_000,
    seconds: float = math.inf,
    batch_size: int = 128,
    lr: float = 2e-3,
    warmup: int = 100,
    ema: float = 0.999,
    clip: float = 1.0,
    seed: int = 0,
    checkpoint: Path | str | None = None,
    save_every: int = 500,
    resume: bool = True,
    progress: bool = False,
) -> Trained:
    """Train ``model.net`` with Adam, in place, and return a copy with an exponential average of the weights.

    Every step's batch, times, noise and dropout depend on (seed, step) alone, so on one machine and number of threads the
    same seed gives the same weights, and a run that was killed and resumed gives those of one that was not, to the bit
    (except with ``seconds``, on which the learning rate then depends).

    Args:
        model: its net is a ``torch.nn.Module``. Times are uniform in the process's t (for EDM, ln σ ~ N(−1.2, 1.2²)).
        data: (N, *shape), where the net is.
        labels: (N,), given to the net as ``label``, replaced by ``null`` with probability ``drop``.
        loss: see :data:`Loss`; for example :func:`simple`, or ``functools.partial(simple, on="eps")``.
        steps, seconds: whichever is used up first ends the run, and the cosine of the learning rate with it.
        lr: the learning rate after ``warmup`` steps of linear growth.
        ema: the average's decay; over the first steps it is less, (1 + k)/(10 + k).
        clip: the gradient's greatest norm.
        checkpoint: a file, replaced (never half written) every ``save_every`` steps and at the end, continued from if it exists
            and ``resume``.
        progress: show a progress bar (tqdm).

    Raises:
        TypeError, ValueError: for arguments that do not fit together, and for a checkpoint of another run.
        RuntimeError: if the gradient is not finite; the last checkpoint is as it was.
    """
    net = model.net
    if not isinstance(net, torch.nn.Module):
        raise TypeError(f"model.net is a {type(net).__name__}; expected a torch.nn.Module, to be trained")
    if data.shape[1:] != model.shape or len(data) == 0:
        raise ValueError(f"data has shape {tuple(data.shape)}; expected (N, {', '.join(map(str, model.shape))})")
    if labels is not None and (labels.shape != (len(data),) or (drop > 0 and null is None)):
        raise ValueError(f"labels has shape {tuple(labels.shape)}, null={null!r}; expected ({len(data)},) and, if drop > 0, the null class")
    for name, number in (("steps", steps), ("seconds", seconds), ("batch_size", batch_size), ("lr", lr), ("warmup", warmup)):
        if not number > 0:
            raise ValueError(f"{name}={number!r}: expected a positive number")
    run = {"steps": steps, "batch_size": batch_size, "lr": lr, "warmup": warmup, "ema": ema, "clip": clip, "seed": seed, "drop": drop}
    run |= {"process": repr(model.process), "predicts": model.predicts, "data": len(data)}
    plain, average = replace(model, correct_x0=None), copy.deepcopy(net).eval()
    weights = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=lr, betas=(0.9, 0.99))
    k, spent = 0, 0.0
    losses: list[Any] = []
    file = None if checkpoint is None else Path(checkpoint)
    if file is not None and resume and file.exists():
        saved = torch.load(file, map_location=data.device, weights_only=True)
        for name, value in run.items():
            if saved["run"].get(name) != value:
                was = saved["run"].get(name)
                raise ValueError(f"{name}={value!r}, but the checkpoint {file} is of a run with {was!r}; expected that, or resume=False")
        for part, state in zip((net, average, optimizer), saved["states"], strict=True):
            part.load_state_dict(state)
        k, spent, losses = saved["step"], saved["seconds"], saved["losses"]

    def save() -> None:
        if file is None:
            return
        states = [part.state_dict() for part in (net, average, optimizer)]
        half = file.with_name(file.name + ".tmp")
        state = {"run": run, "states": states, "step": k, "seconds": spent + time.monotonic() - begin, "losses": [float(v) for v in losses]}
        torch.save(state, half)
        os.replace(half, file)

    bar = progress_bar(progress, None if math.isfinite(seconds) else steps, "step", k)
    net.train()
    begin = time.monotonic()
    with torch.random.fork_rng(devices=[data.device] if data.is_cuda else []):
        while (done := max(k / steps, (spent + time.monotonic() - begin) / seconds)) < 1.0:
            torch.manual_seed(int(np.random.SeedSequence([seed, k]).generate_state(1, np.uint64)[0] >> 1))
            pick = torch.randint(len(data), (batch_size,))
            levels = _levels(model.process, (torch.arange(batch_size) + torch.rand((), dtype=torch.float64)) / batch_size)
            x0, eps = data[pick], torch.randn(batch_size, *model.state_shape).to(data)
            asked = plain
            if labels is not None:
                dropped = (torch.rand(batch_size) < drop).to(labels.device)
                asked = plain.given(label=labels[pick].masked_fill(dropped, null or 0))
            value = loss(asked, x0, eps, levels).mean()
            optimizer.param_groups[0]["lr"] = lr * min(1.0, (k + 1) / warmup) * 0.5 * (1.0 + math.cos(math.pi * done))
            optimizer.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(weights, clip, error_if_nonfinite=True)
            optimizer.step()
            k += 1
            _average(average, net, min(ema, (1 + k) / (10 + k)))
            losses.append(value.detach())
            if k % save_every == 0:
                save()
            if bar is not None:
                bar.update()
    save()
    net.eval()
    if bar is not None:
        bar.close()
    seconds = spent + time.monotonic() - begin
    return Trained(replace(model, net=average.requires_grad_(False)), k, seconds, torch.tensor([float(v) for v in losses]))


def _levels(process: Process, u: Tensor) -> list[Level]:
    """Levels for numbers in [0, 1): uniform in t, on the entries of a table, log-normal for EDM (its table 1)."""
    if isinstance(process, EDM):
        times = (torch.special.ndtri(u) * 1.2 - 1.2).exp().clamp(process.sigma_min, process.sigma_max)
    elif process.entries is not None:
        times = (u * process.entries).floor()
    else:
        times = process.t_min + u * (process.t_max - process.t_min)
    return [process.level(t) for t in times.tolist()]


@torch.no_grad()
def _average(average: torch.nn.Module, net: torch.nn.Module, decay: float) -> None:
    """average ← decay average + (1 − decay) net; buffers are copied."""
    for mine, theirs in zip(average.parameters(), net.parameters(), strict=True):
        mine.lerp_(theirs, 1.0 - decay)
    for mine, theirs in zip(average.buffers(), net.buffers(), strict=True):
        mine.copy_(theirs)
