"""What a whole run costs beyond its network, on a GPU: ``python -m benchmarks.gpu_runs``.

A U-Net of DDPM's size for CIFAR (35.7 million weights, 3×32×32) and a transformer of DiT-B's
(130 million, 16×64×64), with random weights, in float32 and in bfloat16, at batch 1 and 64. Each
number is the time of the bare network, called as often from Python, over that of the run, on the
device's own clock, the median of rounds that take turns: 1 is a run that costs nothing but its
network. ``diffusers`` is the loop of its documentation with the scheduler of that name; ``graph``
is :func:`flowsolve.capture`. ``waits`` counts how often the host waits for the device between the
first evaluation and the last.

Writes benchmarks/results/gpu_runs.json with the device's name. ``--few --device cpu`` runs small
networks, to see that all of it works, and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import flowsolve

from .timing import on_device

RESULTS = Path(__file__).parent / "results" / "gpu_runs.json"
NFE, ROUNDS = 10, 9
OURS = ("ddim", "unipc3", "auto", "ddpm")
THEIRS = ("DDIMScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler")


def unet(few: bool) -> tuple[nn.Module, tuple[int, ...]]:
    from diffusers import UNet2DModel

    wide = (16, 16) if few else (128, 256, 256, 256)
    down = ("DownBlock2D", "AttnDownBlock2D", *["DownBlock2D"] * (len(wide) - 2))
    up = (*["UpBlock2D"] * (len(wide) - 2), "AttnUpBlock2D", "UpBlock2D")
    size: dict[str, Any] = {"norm_num_groups": 8} if few else {}
    net = UNet2DModel(
        sample_size=32,
        in_channels=3,
        out_channels=3,
        layers_per_block=2,
        block_out_channels=wide,
        down_block_types=down,
        up_block_types=up,
        **size,
    )
    return net, (3, 32, 32)


def transformer(few: bool) -> tuple[nn.Module, tuple[int, ...]]:
    from diffusers import DiTTransformer2DModel

    heads, layers, size = (2, 1, 8) if few else (12, 12, 64)
    net = DiTTransformer2DModel(
        num_attention_heads=heads,
        attention_head_dim=64,
        in_channels=16,
        num_layers=layers,
        sample_size=size,
        patch_size=2,
    )
    return net, (16, size, size)


class Plain(nn.Module):
    """A network of diffusers called as flowsolve calls one."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.told: dict[str, Tensor] = {}

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.net(x, t, **self.told).sample


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    if device.type != "cuda":
        begin = time.process_time()
        work()
        return time.process_time() - begin
    return on_device(work)


def theirs(net: Plain, name: str, x: Tensor, dtype: torch.dtype) -> Callable[[], Tensor]:
    """The loop of diffusers' documentation."""
    import diffusers

    scheduler = getattr(diffusers, name)()
    scheduler.set_timesteps(NFE, device=x.device)

    def run() -> Tensor:
        scheduler.set_timesteps(NFE, device=x.device)
        state = x
        for t in scheduler.timesteps:
            out = net(scheduler.scale_model_input(state, t).to(dtype), t.expand(len(x)))
            state = scheduler.step(out.float(), t, state).prev_sample
        return state

    return run


def compared(
    net: nn.Module,
    shape: tuple[int, ...],
    n: int,
    dtype: torch.dtype,
    device: torch.device,
    rounds: int,
) -> dict[str, Any]:
    """The time of the bare network over that of each run."""
    plain = Plain(net.to(device, dtype).eval().requires_grad_(False))
    if "DiT" in type(net).__name__:
        plain.told = {"class_labels": torch.zeros(n, dtype=torch.long, device=device)}
    table = flowsolve.VP.discrete(flowsolve.tables.linear())
    model = flowsolve.Denoiser(plain, table, "eps", shape)
    x = torch.randn((n, *shape), device=device)
    lent, t = x.to(dtype), torch.full((n,), 500, device=device)

    def bare() -> None:
        for _ in range(NFE):
            plain(lent, t)

    runs: dict[str, Callable[[], Any]] = {}
    reasons: dict[str, str] = {}
    for solver in OURS:
        how: dict[str, Any] = {"solver": solver, "nfe": NFE}
        runs[solver] = lambda how=how: flowsolve.sample(model, n=n, seed=0, **how)
        captured = flowsolve.capture(model, n=n, **how)
        if captured.reason is None:
            runs[f"{solver}, graph"] = lambda captured=captured: captured(seed=0)
        else:
            reasons[f"{solver}, graph"] = captured.reason
    for name in THEIRS:
        runs[f"diffusers, {name}"] = theirs(plain, name, x, dtype)
    found: dict[str, list[float]] = {name: [] for name in runs}
    with torch.no_grad():
        for work in (bare, *runs.values()):
            work()  # warm
        for _ in range(rounds):
            unit = min(seconds(bare, device) for _ in range(2))
            for name, work in runs.items():
                found[name].append(unit / min(seconds(work, device) for _ in range(2)))
    rows: dict[str, Any] = {name: round(statistics.median(v), 3) for name, v in found.items()}
    return {**rows, **reasons, "waits": waits(runs["auto"], device)}


def waits(work: Callable[[], Any], device: torch.device) -> int | None:
    """How often the host waits for the device in a run, by torch's profiler; None on a CPU. Two are
    the look at the end whether the samples are finite."""
    if device.type != "cuda":
        return None
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        work()
    names = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
    return sum(each.count for each in seen.key_averages() if each.key in names)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--few", action="store_true")
    asked = parser.parse_args(arguments)
    device, few = torch.device(asked.device), asked.few
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    found: dict[str, Any] = {"device": name, "torch": torch.__version__, "nfe": NFE}
    for kind, make in (("unet", unet), ("transformer", transformer)):
        net, shape = make(few)
        found[kind] = {"weights": sum(p.numel() for p in net.parameters())}
        for dtype in (torch.float32,) if few else (torch.float32, torch.bfloat16):
            for n in (1, 2) if few else (1, 64):
                row = compared(net, shape, n, dtype, device, 1 if few else ROUNDS)
                found[kind][f"{n}, {str(dtype).removeprefix('torch.')}"] = row
                print(kind, n, dtype, row, flush=True)
    if not few:
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    return found


if __name__ == "__main__":
    main()
