"""What a fit takes on a GPU, and what it gains there.

    python benchmarks/tuning_gpu.py

Writes benchmarks/results/tuning_gpu.json, which names the device. Networks are those of
benchmarks/networks.py and the shipped ones, their errors on 256 starts that nothing was fitted on;
half precision is the same network in bfloat16.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import collection
import torch
from exact_problems import errors

import flowsolve

RESULTS = Path(__file__).parent / "results" / "tuning_gpu.json"


def measured(name: str, nfe: int, dtype: torch.dtype, n: int, device: str) -> dict[str, Any]:
    if dtype != torch.float32:
        model = getattr(flowsolve, name)(dtype=dtype, device=device)  # a shipped one
    else:
        model = collection.trained(name)
        net: Any = model.net
        net.to(device)
    flowsolve.sample(model, nfe=2, n=512)  # warm
    begin = time.perf_counter()
    tuned = flowsolve.tune(model, nfe, batch_size=512)
    seconds = time.perf_counter() - begin
    run: dict[str, Any] = {"n": n, "seed": 9}
    truth = flowsolve.sample(model, solver="etd4", grid="logsnr", nfe=200, **run).double()
    row: dict[str, Any] = {"seconds": round(seconds, 2), "evaluations": tuned.evaluations}
    for label, solver, budget in (("auto", "auto", nfe), ("tuned", tuned, None)):
        x = flowsolve.sample(model, solver=solver, nfe=budget, **run)
        row[label] = [float(f"{e:.4g}") for e in errors(x, truth)]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description="Tune on a GPU.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--few", action="store_true", help="few of everything, nothing is written")
    asked = parser.parse_args()
    found: dict[str, Any] = {"device": asked.device, "torch": torch.__version__}
    if asked.device == "cuda":
        found["device"] = torch.cuda.get_device_name()
    cases = [("fashion", torch.float32), ("photos-vp", torch.float32), ("fashion", torch.bfloat16)]
    for name, dtype in cases[: 1 if asked.few else 3]:
        nfe, n = (2, 4) if asked.few else (8, 256)
        key = f"{name}, {str(dtype).removeprefix('torch.')}, {nfe}"
        found[key] = measured(name, nfe, dtype, n, asked.device)
        print(key, found[key], flush=True)
    if not asked.few:
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
