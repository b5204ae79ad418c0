"""Plans fitted to a model, and ``auto``, against the best of the peers' settings.

    python benchmarks/tuning.py bench       # exact problems, tuned and auto
    python benchmarks/tuning.py checking    # auto on the problems it was not chosen on
    python benchmarks/tuning.py choosing    # and on those it was
    python benchmarks/tuning.py networks    # both, on trained networks

Each writes its part of benchmarks/results/tuning.json, with errors on starts that nothing was
fitted on: the root mean square, the median, and their geometric mean ("both"). The *oracle* is, for
each problem, number of evaluations and measure, the best of all settings of diffusers and azula in
peer_settings.py, from the same starts; of networks, of the leading ones. ``--few`` takes few of
everything, and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import collection
import few_step
import peer_runs
import peer_settings
import torch
from exact_problems import Errors, Problem, problem

import flowsolve

RESULTS = Path(__file__).parent / "results" / "tuning.json"
BUDGETS = (5, 6, 8, 10, 12)
#: The problems of the bench: a law, a process and how many starts.
BENCH = [
    (law, process, n)
    for law, n in (("mixture", 256), ("digits", 64), ("images", 16))
    for process in ("EDM", "VP")
]
#: Networks: how many starts, and the seeds of the fits.
NETWORKS = {
    "digits": (256, 3),
    "fashion": (48, 1),
    "digits-flow": (48, 1),
    "digits-edm": (48, 1),
    "unet2d": (32, 1),
    "photos-flow": (16, 1),
    "photos-vp": (16, 1),
    "photos16-cosine": (24, 1),
    "photos24-cosine": (16, 1),
}


def oracle(where: Problem, nfe: int, everything: bool) -> dict[str, Any]:
    """The best of the peers, for each measure."""
    rows = {str(s): peer_runs.errors(s, where, nfe) for s in peer_settings.settings(everything)}
    there = {name: e for name, e in rows.items() if e is not None}
    key = where.name, where.process_name
    best = {m: few_step.best({key: rows}, m)[key] for m in few_step.MEASURES}
    return {
        "settings": len(there),
        **{m: e for m, (e, _) in best.items()},
        "names": {m: name for m, (_, name) in best.items()},
        "all": {name: [float(f"{v:.4g}") for v in e] for name, e in there.items()},
    }


def said(e: Errors | None) -> dict[str, float] | None:
    if e is None:
        return None
    return {measure: of(e) for measure, of in few_step.MEASURES.items()}


def one(
    where: Problem, nfe: int, seeds: int, everything: bool, effort: tuple[str, ...]
) -> dict[str, Any]:
    """Everything of one problem at one number of evaluations."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    row: dict[str, Any] = {
        name: said(few_step.errors(where, nfe, solver=name)) for name in ("auto", "ddim")
    }
    if nfe > 2:
        row["auto, one less"] = said(few_step.errors(where, nfe - 1, solver="auto"))
    row["oracle"] = oracle(where, nfe, everything)
    for how in effort:
        row[how] = []
        for seed in range(seeds):
            begin = time.process_time()
            options: Any = {"effort": how, "seed": seed}
            tuned = flowsolve.tune(where.model, nfe, **options)
            run = flowsolve.solve(where.model, solver=tuned, start=where.start)
            row[how].append(
                {
                    **(said(where.errors(run.x)) or {}),
                    "from": tuned.name,
                    "evaluations": tuned.evaluations,
                    "seconds": round(time.process_time() - begin, 1),
                }
            )
    return row


def _exact(part: str, name: Any, nfe: int, few: bool) -> dict[str, Any]:
    if part == "bench":
        law, process, n = name
        where = problem(law, process, 8 if few else n)
        return one(where, nfe, 1, not few, ("search",) if few else ("search", "full"))
    return one(collection.exact(name), nfe, 0, not few, ())


def _network(name: str, nfe: int, few: bool) -> dict[str, Any]:
    n, seeds = (4, 1) if few else NETWORKS[name]
    where = collection.of_network(name, collection.trained(name), n)
    return one(where, nfe, seeds, False, ("search",) if few else ("search", "full"))


def measured(part: str, budgets: tuple[int, ...], few: bool, only: list[str]) -> dict[str, Any]:
    names: list[Any] = {
        "bench": BENCH,
        "checking": [*collection.CHECKING],
        "choosing": [*collection.CHOOSING],
        "networks": [*NETWORKS],
    }[part]
    names = [n for n in names if not only or label(n) in only][: 1 if few else None]
    found: dict[str, Any] = {label(name): {} for name in names}
    with ProcessPoolExecutor(2) as pool:
        jobs = {
            (label(name), nfe): pool.submit(_network, name, nfe, few)
            if part == "networks"
            else pool.submit(_exact, part, name, nfe, few)
            for name in names
            for nfe in budgets
        }
        for (name, nfe), job in jobs.items():
            found[name][str(nfe)] = row = job.result()
            print(name, nfe, summary(row), flush=True)
    return found


def label(name: Any) -> str:
    return name if isinstance(name, str) else f"{name[0]}, {name[1]}"


def summary(row: dict[str, Any]) -> str:
    """Errors in the oracle's, [RMSE, median, both]."""
    best = row["oracle"]
    parts = []
    for name in ("auto", "search", "full"):
        for e in row[name] if isinstance(row.get(name), list) else [row.get(name)]:
            if e is not None:
                ratios = " ".join(f"{e[m] / best[m]:.2f}" for m in few_step.MEASURES)
                parts.append(f"{name} {ratios}")
    return "; ".join(parts)


def singles(found: dict[str, Any]) -> None:
    """In the place of every setting's errors: which single one is best on all problems, for each
    number of evaluations and measure."""
    runs: dict[str, few_step.Runs] = {}
    for name, rows in found.items():
        for nfe, row in rows.items():
            runs.setdefault(nfe, {})[name, ""] = row["oracle"].pop("all")
    found["single"] = {
        nfe: {m: few_step.everywhere(each, m)[0] for m in few_step.MEASURES}
        for nfe, each in runs.items()
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Tuned plans and auto against the peers.")
    parser.add_argument("part", choices=("bench", "checking", "choosing", "networks"))
    parser.add_argument("--only", action="append", default=[], help="one of the problems")
    parser.add_argument("--budgets", type=lambda s: tuple(map(int, s.split(","))))
    parser.add_argument("--few", action="store_true", help="few of everything, nothing is written")
    asked = parser.parse_args(arguments)
    usual = (2, 3, 4, *BUDGETS, 15, 20) if asked.part in ("checking", "choosing") else BUDGETS
    budgets = asked.budgets or ((6,) if asked.few else usual)
    found = measured(asked.part, budgets, asked.few, asked.only)
    singles(found)
    if not asked.few:
        whole = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        part = whole.setdefault(asked.part, {})
        for name, rows in found.items():
            part.setdefault(name, {}).update(rows)
        RESULTS.write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()
