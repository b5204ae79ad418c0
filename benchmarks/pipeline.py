"""What schedulers make of a few evaluations, on a network trained with diffusers' own loop.

    python -m benchmarks.pipeline --pipeline runs/pipeline --data package/src/digits

Writes benchmarks/results/pipeline.json: for each scheduler and number of evaluations the distance
to the end of the probability-flow ODE from the same starts (root mean square over pixels and
samples), and for some of them the Fréchet distance to held-out images, in the features of a small
classifier. The network is what :mod:`benchmarks.pipeline_train` left: CI trains and measures one of
20 steps. Every run is diffusers' loop: set_timesteps, scale_model_input, the network, step.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor

import flowsolve
from flowsolve.integrations.diffusers import FlowsolveScheduler
from flowsolve.models.files import Images
from flowsolve.models.quality import frechet

from .fashion import seen, trained
from .pipeline_train import split

RESULTS = Path(__file__).parent / "results" / "pipeline.json"
BUDGETS = (4, 5, 6, 8, 10, 12, 15, 20)
#: diffusers' schedulers: the class, and what of its configuration is not the default.
THEIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "DDIM": ("DDIM", {"clip_sample": False}),
    "DDIM, trailing": ("DDIM", {"clip_sample": False, "timestep_spacing": "trailing"}),
    "DPM++ 2M": ("DPMSolverMultistep", {}),
    "DPM++ 2M, trailing": ("DPMSolverMultistep", {"timestep_spacing": "trailing"}),
    "DPM++ 2M, Karras": ("DPMSolverMultistep", {"use_karras_sigmas": True}),
    "UniPC": ("UniPCMultistep", {}),
    "UniPC, Karras": ("UniPCMultistep", {"use_karras_sigmas": True}),
    "Euler": ("EulerDiscrete", {}),
    "Euler, Karras": ("EulerDiscrete", {"use_karras_sigmas": True}),
    "Heun, Karras": ("HeunDiscrete", {"use_karras_sigmas": True}),
}
#: Ours in the place of DDIM's: the solver, and the grid.
OURS: dict[str, tuple[str, str | None]] = {
    "auto": ("auto", None),
    "unipc2, trailing": ("unipc2", "trailing"),
    "vpc2, trailing": ("vpc2", "trailing"),
    "vpc2, dpm_linspace": ("vpc2", "dpm_linspace"),
    "vpc2, beta": ("vpc2", "beta"),
    "unipc3, beta": ("unipc3", "beta"),
    "vpc2, karras": ("vpc2", "karras"),
    "vpc3, karras": ("vpc3", "karras"),
    "vpc3, logsnr": ("vpc3", "logsnr"),
}


def schedulers() -> dict[str, Any]:
    """By label; all on DDPM's own table."""
    found: dict[str, Any] = {}
    for label, (name, options) in THEIRS.items():
        found[label] = getattr(diffusers, f"{name}Scheduler")(**options)
    base = found["DDIM"]
    for label, (solver, grid) in OURS.items():
        found[f"flowsolve {label}"] = FlowsolveScheduler.of(base, solver, grid)
    return found


def run(net: Any, scheduler: Any, nfe: int, start: Tensor) -> Tensor:
    """Where diffusers' loop ends with at most ``nfe`` evaluations."""
    heun = type(scheduler).__name__ == "HeunDiscreteScheduler"  # which makes 2n − 1 of n
    scheduler.set_timesteps((nfe + 1) // 2 if heun else nfe)
    x, asked = start * float(scheduler.init_noise_sigma), 0
    with torch.no_grad():
        for t in scheduler.timesteps:
            out = net(scheduler.scale_model_input(x, t), t).sample
            x = scheduler.step(out, t, x, return_dict=False)[0]
            asked += 1
    assert asked <= nfe
    return x


def measured(
    folder: Path, data: Path, budgets: Sequence[int], n: int, many: int, epochs: int
) -> dict[str, Any]:
    model = flowsolve.load(folder)
    net: Any = model.net
    shape = model.data_shape
    start = torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))
    reference = flowsolve.compare(
        model, solvers="ddim", nfe=1, start=start
    ).reference  # etd4 on logsnr, 200 evaluations
    rows = schedulers()
    errors: dict[str, dict[str, float]] = {}
    for label, scheduler in rows.items():
        ends = {k: run(net.net, scheduler, k, start) for k in budgets}
        errors[label] = {
            str(k): float((x - reference).square().mean().sqrt()) for k, x in ends.items()
        }
        print(label, errors[label], flush=True)
    said = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    result = {"training": said, "samples": n, "error": errors}
    if many:
        result |= {"many": many, "frechet": _distances(net.net, rows, errors, data, many, epochs)}
    return result


def _distances(
    net: Any, rows: dict[str, Any], errors: Any, data: Path, many: int, epochs: int
) -> dict[str, dict[str, float]]:
    """Fréchet distances of what is nearest to the ODE, of each side, and of what everybody uses."""
    x, labels, held, _ = split(data)
    classifier = trained(Images(x, labels), epochs)
    real, _ = seen(classifier, held)
    some = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[: len(held)]
    found = {"training images": {"": frechet(seen(classifier, x[some])[0], real)}}

    def mean(label: str) -> float:
        return sum(math.log(e) for e in errors[label].values())

    sides = [[label for label in rows if (label in THEIRS) == theirs] for theirs in (True, False)]
    best = [min(side, key=mean) for side in sides]
    start = torch.randn(many, *x.shape[1:], generator=torch.Generator().manual_seed(1))
    for label in dict.fromkeys([*best, "DDIM", "DPM++ 2M, Karras", "UniPC", "flowsolve auto"]):
        found[label] = {}
        for k in (5, 8, 12, 20):
            ends = [run(net, rows[label], k, part) for part in start.split(100)]
            found[label][str(k)] = frechet(seen(classifier, torch.cat(ends).clamp(-1, 1))[0], real)
        print(label, found[label], flush=True)
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Schedulers on a network of diffusers'.")
    parser.add_argument("--pipeline", type=Path, required=True, help="a saved pipeline")
    parser.add_argument("--data", type=Path, required=True, help="the images it was trained on")
    parser.add_argument("--few", action="store_true", help="few of everything, nothing is written")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    how: tuple[Any, ...] = ((4,), 4, 0, 1) if given.few else (BUDGETS, 64, 500, 8)
    found = json.dumps(measured(given.pipeline, given.data, *how), indent=1) + "\n"
    if not given.few:
        RESULTS.write_text(found, encoding="utf-8")
    print(found, end="")


if __name__ == "__main__":
    main()
