"""What goes beyond a sample costs, as ratios of times within one process:
``python -m benchmarks.costs`` writes benchmarks/results/costs.json. Digits, one thread, the least
of five of each, the parts of a ratio one after another."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import flowsolve
from flowsolve.models.data import data

RESULTS = Path(__file__).parent / "results" / "costs.json"


def ratio(run: Callable[[], Any], against: Callable[[], Any]) -> float:
    """The least time of one over that of the other."""
    least = [float("inf"), float("inf")]
    for _ in range(6):
        for k, each in enumerate((run, against)):
            begin = time.perf_counter()
            each()
            least[k] = min(least[k], time.perf_counter() - begin)
    return round(least[0] / least[1], 2)


def main() -> None:
    torch.set_num_threads(1)
    split = data()
    x, labels = split.held_out[:16], split.held_out_labels[:16]
    model, pair = flowsolve.digits(labels), flowsolve.digits(labels.repeat(2))
    level = model.process.level(0.5)

    def evaluate() -> Any:
        with torch.no_grad():
            return model.evaluate(x, level)

    def product() -> Any:
        at = x.clone().requires_grad_()
        return torch.autograd.grad(model.evaluate(at, level).sum(), at)

    def gradient(memory: str | None, **how: Any) -> Callable[[], Any]:
        def run() -> Any:
            start = x.clone().requires_grad_()
            end = flowsolve.sample(
                model, nfe=20, start=start, differentiable=True, memory=memory, **how
            )
            return torch.autograd.grad(end.sum(), start)

        return run

    guided = flowsolve.guided(model, {"label": torch.full((1,), 10)}, scale=2.0)
    start = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = {
        "vjp over evaluation": ratio(product, evaluate),
        "likelihood, 64 products each of 5 evaluations, over 320 products": ratio(
            lambda: flowsolve.log_likelihood(model, x, solver="ddim", nfe=5),
            lambda: [product() for _ in range(320)],
        ),
        "likelihood, 8 probes, over 8 products an evaluation": ratio(
            lambda: flowsolve.log_likelihood(
                model, x, solver="ddim", nfe=20, divergence="hutchinson", seed=0
            ),
            lambda: [product() for _ in range(160)],
        ),
        "exact encoding over ddim's, at 20 evaluations": ratio(
            lambda: flowsolve.encode(model, x, exact=True, nfe=20),
            lambda: flowsolve.encode(model, x, solver="ddim", nfe=20),
        ),
        "guided over unguided at twice the batch": ratio(
            lambda: flowsolve.sample(guided, solver="ddim", nfe=20, start=start),
            lambda: flowsolve.sample(pair, solver="ddim", nfe=20, start=start.repeat(2, 1, 1, 1)),
        ),
        "gradient with checkpoints over plain": ratio(
            gradient("checkpoint", solver="ddim"), gradient(None, solver="ddim")
        ),
        "gradient in constant memory over plain ddim": ratio(
            gradient("constant"), gradient(None, solver="ddim")
        ),
    }
    text = json.dumps(found, indent=1) + "\n"
    RESULTS.write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
