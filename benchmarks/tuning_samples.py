"""What tuned plans are worth beyond the starts they were fitted to.

    python benchmarks/tuning_samples.py transfer          # to labels and guidance, on the digits
    python benchmarks/tuning_samples.py frechet digits    # samples, beside those of the peers
    python benchmarks/tuning_samples.py frechet fashion --data /usr/share/datasets/fashion-mnist
    python benchmarks/tuning_samples.py frechet digits-flow --data package/src/digits

Each adds its part to benchmarks/results/tuning.json. Of ``frechet``, distances of samples to the
data: 1,000 of the shipped digits by class, in pixels, with plans fitted without a class; 500
pictures of 28×28, in the features of a classifier that is trained on them, with plans for 8
evaluations alone. The peers' are the leading settings nearest to the end of the ODE with 8 and 12
evaluations, as ``benchmarks/tuning.py networks`` found.
``--few`` takes few of everything, and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import collection
import few_step
import peer_runs
import peer_settings
import torch
from torch import Tensor
from tuning import RESULTS, said

import flowsolve
from flowsolve.models import quality
from flowsolve.models.files import read_images


def transfer(few: bool) -> dict[str, Any]:
    """Errors on other starts with a label, and guided, of plans that were fitted without either;
    and of one fitted there."""
    free = flowsolve.digits()
    cases = {
        "no label": free,
        "label 3": flowsolve.digits(3),
        "label 8": flowsolve.digits(8),
        "guidance 2": flowsolve.guided(flowsolve.digits(3), {"label": 10}, scale=2.0),
        "guidance 4": flowsolve.guided(flowsolve.digits(3), {"label": 10}, scale=4.0),
    }
    found, nfe = dict[str, Any](), 5
    plans: dict[str, Any] = {"auto": "auto"}
    for effort in ("search",) if few else ("search", "full"):
        plans[effort] = flowsolve.tune(free, nfe, effort=effort, seed=0)
    for name, model in cases.items():
        where = collection.of_network(name, model, 8 if few else 256)
        row = {
            who: said(few_step.errors(where, None if who != "auto" else nfe, solver=plan))
            for who, plan in plans.items()
        }
        if not few:
            there = flowsolve.tune(model, nfe, seed=0)
            row["fitted there"] = said(few_step.errors(where, None, solver=there))
        found[name] = {str(nfe): row}
        print(name, nfe, row, flush=True)
    return found


def frechet(name: str, data: Path | None, few: bool) -> dict[str, Any]:
    """Distances of samples from the same starts: of ours, of the end of the ODE, and of the peers'
    setting that is nearest to that."""
    small = name == "digits"
    n = 20 if few else 1000 if small else 500
    free = collection.trained(name)
    model = flowsolve.digits(torch.arange(n) % 10) if small else free.given(per_sample=[])
    where = collection.starts_of(name, model, n, 2000)
    measure, rows = _measure(name, data, few), dict[str, float]()

    def add(row: str, x: Tensor) -> None:
        rows[row] = round(measure(x.float()), 4)
        print(name, row, rows[row], flush=True)

    def ours(row: str, nfe: int | None, solver: Any) -> None:
        ends = [
            flowsolve.solve(model, solver=solver, nfe=nfe, start=part, first=100 * k).x
            for k, part in enumerate(where.start.split(100))
        ]
        add(row, torch.cat(ends))

    ours("ODE", 24 if few else 60, "auto")
    for nfe in (5,) if few else (5, 6, 8, 12):
        ours(f"auto, {nfe}", nfe, "auto")
    for nfe in (5,) if few else (5, 6, 8) if small else (8,):
        for effort in ("search",) if few else ("search", "full"):
            tuned = flowsolve.tune(free, nfe, effort=effort, seed=0)
            ours(f"{effort}, {nfe}", None, tuned)
    measured = json.loads(RESULTS.read_text())["networks"][name]
    for nfe in (8,) if few else (8, 12):
        best = measured[str(nfe)]["oracle"]["names"]["both"]
        (setting,) = (s for s in peer_settings.settings() if str(s) == best)
        x = peer_runs.end(setting, where, nfe)
        assert x is not None
        add(f"{best}, {nfe}", x)
    return rows


def _measure(name: str, data: Path | None, few: bool) -> Callable[[Tensor], float]:
    if name == "digits":
        return lambda x: quality.measure(name, x, None).frechet
    import fashion

    assert data is not None, f"--data: where the pictures of {name!r} are"
    images = read_images(next(data.glob("train-images*idx3-ubyte*"), data))
    images = fashion.of_each(images, 500) if few else images
    net = fashion.trained(images, 1 if few else 120_000 // len(images.x))
    real = fashion.seen(net, images.x[:10_000])[0]
    return lambda x: quality.frechet(fashion.seen(net, x.clamp(-1.0, 1.0))[0], real)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=("transfer", "frechet"))
    parser.add_argument("network", nargs="?", default="digits", help="of frechet: which")
    parser.add_argument("--data", type=Path, help="the pictures that it was trained on")
    parser.add_argument("--few", action="store_true", help="few of everything, nothing is written")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if asked.part == "transfer":
        found = transfer(asked.few)
    else:
        found = {asked.network: frechet(asked.network, asked.data, asked.few)}
    if not asked.few:
        whole = json.loads(RESULTS.read_text())
        whole.setdefault(asked.part, {}).update(found)
        RESULTS.write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()
