"""Rounds, evaluations and errors of runs in parallel in time: ``python -m benchmarks.parallel``.

Four digits, one thread; the ratio of times is to the serial run, least of three of each, in one
process. Writes benchmarks/results/parallel.json.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import flowsolve
from flowsolve import Parallel

RESULTS = Path(__file__).parent / "results" / "parallel.json"
RUNS = {"ddim": 100, "auto": 50, "dpmpp2m": 50, "heun": 50, "ddpm": 50}


def least(run: Callable[[], Any]) -> tuple[Any, float]:
    times, result = [], None
    for _ in range(3):
        begin = time.perf_counter()
        result = run()
        times.append(time.perf_counter() - begin)
    return result, min(times)


def main() -> None:
    torch.set_num_threads(1)
    model = flowsolve.digits(torch.tensor([1, 3, 5, 8]))
    found: dict[str, Any] = {}
    for solver, nfe in RUNS.items():
        how: dict[str, Any] = {"solver": solver, "nfe": nfe, "seed": 0}
        serial, seconds = least(lambda how=how: flowsolve.sample(model, **how))
        settings = {f"tol={tol:g}, memory={m}": Parallel(tol, memory=m)
                    for tol in (1e-3, 1e-4, 1e-5) for m in (0, 3)}  # fmt: skip
        if solver == "ddim":
            settings |= {f"tol=0.0001, memory={m}": Parallel(1e-4, memory=m) for m in (1, 2, 4)}
            settings |= {f"tol=0.0001, window={w}": Parallel(1e-4, w) for w in (10, 20, 40)}
        for name, setting in settings.items():
            run, taken = least(
                lambda how=how, setting=setting: flowsolve.solve(model, parallel=setting, **how)
            )
            found.setdefault(f"{solver} {nfe}", {})[name] = {
                "rounds": run.rounds,
                "evaluations": run.nfe,
                "error": float((run.x - serial).abs().max()),
                "time_ratio": round(taken / seconds, 2),
            }
    many = flowsolve.digits(torch.arange(64) % 10)
    for solver, nfe in (("ddim", 100), ("auto", 50)):
        how = {"solver": solver, "nfe": nfe, "seed": 0}
        _, seconds = least(lambda how=how: flowsolve.sample(many, **how))
        _, taken = least(lambda how=how: flowsolve.sample(many, parallel=True, **how))
        found[f"{solver} {nfe}"]["time_ratio of 64 digits, tol=0.001"] = round(taken / seconds, 2)
    text = json.dumps(found, indent=1) + "\n"
    RESULTS.write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
