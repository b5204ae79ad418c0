"""What is paid once: the coefficients, computed at the first run with a solver, process, grid and
budget, and the import.

The work is the interpreter's, so its targets are in units of a fixed loop of Python, timed in the
same rounds (timing.python_loop).
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from report import Report
from timing import ROUNDS, Spread, python_loop, spread, timed

import flowsolve

SHAPE = (1, 4, 64, 64)
#: What the extra time of a first run once was, by solver and evaluations: in milliseconds, which
#: are one machine's, and in loops. The target is a third.
BEFORE = {
    ("auto", 50): (44.0, 12.1),
    ("auto", 1000): (940.0, 237.0),
    ("unipc3", 50): (32.0, 10.3),
    ("unipc3", 1000): (693.0, 201.0),
}
IMPORT = """
import time, torch
begin = time.process_time()
import flowsolve
flowsolve.Denoiser, flowsolve.VP, flowsolve.solve
print(time.process_time() - begin)
"""
#: A process that differs in the last digits is another one, so nothing is found in a cache.
_fresh = itertools.count(1)


def first_and_next(solver: str, nfe: int) -> tuple[float, float]:
    """Seconds of the first run of a solver on a new process, and of the same run again."""
    x = torch.randn(SHAPE)
    process = flowsolve.VP(beta_max=20.0 + 1e-9 * next(_fresh))
    model = flowsolve.Denoiser(lambda x, time: x, process, "eps", SHAPE[1:])
    run: Callable[[], Any] = lambda: flowsolve.solve(  # noqa: E731
        model, solver=solver, nfe=nfe, start=x
    )
    return timed(run), min(timed(run) for _ in range(3))


def import_seconds() -> float:
    """Processor time of importing what a run needs, torch being imported already."""
    root = str(Path(flowsolve.__file__).parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    found = subprocess.run(
        [sys.executable, "-c", IMPORT],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(found.stdout)


def test_first_calls(full: bool, report: Report) -> None:
    """The extra time of a first run, and of the import."""
    rounds, cases = (ROUNDS, [*BEFORE, ("ddim", 50)]) if full else (1, [("auto", 8)])
    extra: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
    again: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
    loops: list[float] = []
    first_and_next("ddim", 5)  # what is imported at a first use is no plan's cost
    for k in range(rounds):
        report.doing(f"first runs, round {k + 1} of {rounds}")
        loops.append(min(timed(python_loop) for _ in range(10)))
        for case in cases:
            first, after = first_and_next(*case)
            extra[case].append(first - after)
            again[case].append(after)
    report.doing("import")
    imports = spread(1e3 * import_seconds() for _ in range(rounds)) if full else None
    result: dict[str, Any] = {"ms_loop": _ms(loops), "ms_import": imports, "first_run": {}}
    for (solver, nfe), seconds in extra.items():
        name = f"{solver}, {nfe} evaluations"
        in_loops = spread(s / loop for s, loop in zip(seconds, loops, strict=True))
        result["first_run"][name] = {
            "ms_extra": _ms(seconds),
            "ms_next": _ms(again[solver, nfe]),
            "loops_extra": in_loops,
        }
        ms, units = BEFORE.get((solver, nfe), (None, None))
        report.row(f"first run, {name}", in_loops, units and units / 3, "loops")
        report.row(f"first run, {name}", _ms(seconds), ms and ms / 3, "ms")
    if imports:
        report.row("import after torch", imports, unit="ms")
    report.save("first_calls.json", result)


def _ms(seconds: list[float]) -> Spread:
    return spread(1e3 * s for s in seconds)
