"""The training loop: Adam, a warm-up and a cosine, an exponential average of the weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from ..denoiser import Denoiser
from ..output import write
from ..run import progress_bar
from ..typing import Float, Int
from .objectives import Loss, simple


class Trained(NamedTuple):
    """What :func:`train` returns: the model with the averaged weights, steps and seconds spent, and
    each step's loss (steps,)."""

    model: Denoiser
    steps: int
    seconds: float
    losses: Float[Tensor, "steps"]


def train(
    model: Denoiser,
    data: Float[Tensor, "N *shape"],
    *,
    labels: Int[Tensor, "N"] | None = None,
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
    """Train ``model.net`` with Adam, in place, and return a copy with an exponential average of the
    weights.

    Every step's batch, times, noise and dropout depend on (seed, step) alone, so on one machine and
    number of threads the same seed gives the same weights, and a run that was killed and resumed
    gives those of one that was not, to the bit (except with ``seconds``, on which the learning rate
    then depends).

    Args:
        model: its net is a ``torch.nn.Module``. Times are uniform in the process's t (for EDM, ln σ
            ~ N(−1.2, 1.2²)).
        data: (N, *shape), where the net is.
        labels: (N,), given to the net as ``label``, replaced by ``null`` with probability ``drop``.
        loss: see :data:`~flowsolve.training.objectives.Loss`; for example :func:`simple`, or
            ``functools.partial(simple, on="eps")``.
        steps, seconds: whichever is used up first ends the run, and the cosine of the learning rate
            with it.
        lr: the learning rate after ``warmup`` steps of linear growth.
        ema: the average's decay; over the first steps it is less, (1 + k)/(10 + k).
        clip: the gradient's greatest norm.
        checkpoint: a file, replaced (never half written) every ``save_every`` steps and at the end,
            continued from if it exists and ``resume``.
        progress: show a progress bar (tqdm).

    Raises:
        TypeError, ValueError: for arguments that do not fit together, and for a checkpoint of
            another run.
        RuntimeError: if the gradient is not finite; the last checkpoint is as it was.
    """
    net = _trainable(model)
    _check(model, data, labels, null, drop)
    positive = {"steps": steps, "batch_size": batch_size, "lr": lr, "warmup": warmup}
    for name, number in {**positive, "seconds": seconds}.items():
        if not number > 0:
            raise ValueError(f"{name}={number!r}: expected a positive number")
    run = {**positive, "ema": ema, "clip": clip, "seed": seed, "drop": drop}
    run |= {"process": repr(model.process), "predicts": str(model.predicts), "data": len(data)}
    plain = replace(model, correct_x0=None)
    weights = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=lr, betas=(0.9, 0.99))
    average = AveragedModel(net, multi_avg_fn=_decaying(ema)).eval()
    average.update_parameters(net)  # the first update copies; from here on it counts steps
    parts = (net, average, optimizer)
    k, spent = 0, 0.0
    losses: list[Any] = []
    file = None if checkpoint is None else Path(checkpoint)
    if file is not None and resume and file.exists():
        k, spent, losses = _restore(file, run, parts, data.device)
    bar = progress_bar(progress, None if math.isfinite(seconds) else steps, "step", k)
    begin = time.monotonic() - spent

    def done(k: int) -> float:
        return max(k / steps, (time.monotonic() - begin) / seconds)

    def save() -> None:
        if file is not None:
            state = {
                "run": run,
                "states": [part.state_dict() for part in parts],
                "step": k,
                "seconds": time.monotonic() - begin,
                "losses": [float(v) for v in losses],
            }
            write(file, lambda out: torch.save(state, out))

    schedule = LambdaLR(
        optimizer,
        lambda k: min(1.0, (k + 1) / warmup) * 0.5 * (1.0 + math.cos(math.pi * done(k))),
        last_epoch=k - 1,
    )
    net.train()
    with torch.random.fork_rng(devices=[data.device] if data.is_cuda else []):
        while done(k) < 1.0:
            torch.manual_seed(
                int(np.random.SeedSequence([seed, k]).generate_state(1, np.uint64)[0] >> 1)
            )
            pick = torch.randint(len(data), (batch_size,))
            u = (torch.arange(batch_size) + torch.rand((), dtype=torch.float64)) / batch_size
            x0, eps = data[pick], torch.randn(batch_size, *model.state_shape).to(data)
            asked = plain
            if labels is not None:
                dropped = (torch.rand(batch_size) < drop).to(labels.device)
                asked = plain.given(label=labels[pick].masked_fill(dropped, null or 0))
            levels = [model.process.level(t) for t in model.process.training_times(u).tolist()]
            value = loss(asked, x0, eps, levels).mean()
            optimizer.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(weights, clip, error_if_nonfinite=True)
            optimizer.step()
            schedule.step()
            average.update_parameters(net)
            k += 1
            losses.append(value.detach())
            if k % save_every == 0:
                save()
            if bar is not None:
                bar.update()
    save()
    net.eval()
    if bar is not None:
        bar.close()
    return Trained(
        replace(model, net=average.module.requires_grad_(False)),
        k,
        time.monotonic() - begin,
        torch.tensor([float(v) for v in losses]),
    )


def _trainable(model: Denoiser) -> torch.nn.Module:
    if not isinstance(model.net, torch.nn.Module):
        raise TypeError(
            f"model.net is a {type(model.net).__name__}; expected a torch.nn.Module, to be trained"
        )
    return model.net


def _check(
    model: Denoiser, data: Tensor, labels: Tensor | None, null: int | None, drop: float
) -> None:
    if data.shape[1:] != model.data_shape or len(data) == 0:
        raise ValueError(
            f"data has shape {tuple(data.shape)}; expected (N, "
            f"{', '.join(map(str, model.data_shape))})"
        )
    if labels is not None and (labels.shape != (len(data),) or (drop > 0 and null is None)):
        raise ValueError(
            f"labels has shape {tuple(labels.shape)}, null={null!r}; "
            f"expected ({len(data)},) and, if drop > 0, the null class"
        )


def _decaying(ema: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Any], None]:
    """After k steps: average ← d average + (1 − d) weights, d = min(ema, (1 + k)/(10 + k))."""

    def update(average: Sequence[Tensor], weights: Sequence[Tensor], steps: Any) -> None:
        k = int(steps)
        for mine, theirs in zip(average, weights, strict=True):
            mine.lerp_(theirs, 1.0 - min(ema, (1 + k) / (10 + k)))

    return update


def _restore(
    file: Path, run: dict[str, Any], parts: Sequence[Any], device: torch.device
) -> tuple[int, float, list[float]]:
    """Steps, seconds and losses so far of the checkpoint, whose states the ``parts`` take. Raises
    ValueError if it is not of this ``run``."""
    saved = torch.load(file, map_location=device, weights_only=True)
    for name, value in run.items():
        was = saved["run"].get(name)
        if was != value:
            raise ValueError(
                f"{name}={value!r}, but the checkpoint {file} is of a run with {was!r}; "
                "expected that, or resume=False"
            )
    for part, state in zip(parts, saved["states"], strict=True):
        part.load_state_dict(state)
    return saved["step"], saved["seconds"], saved["losses"]
