"""The benchmark of tuned plans, small; and a network of its collection, trained for a moment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent


def run(*arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.peers
def test_the_bench_runs():
    for name in ("diffusers", "azula"):
        pytest.importorskip(name)
    out = run("benchmarks/tuning.py", "bench", "--few", "--budgets", "3")
    assert out.startswith("mixture, EDM 3 auto ") and "; search " in out


def test_a_network_is_trained(tmp_path):
    rng = np.random.default_rng(0)
    for k in range(2):
        pixels = rng.integers(0, 255, (150, 140, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
    where = ("--data", str(tmp_path), "--out", str(tmp_path / "out"))
    run("benchmarks/networks.py", "photos16-cosine", *where, "--seconds", "3", "--batch", "2")
    assert (tmp_path / "out" / "photos16-cosine.pt").stat().st_size > 4e6


@pytest.mark.peers
def test_what_plans_are_worth_elsewhere_runs():
    for name in ("diffusers", "azula"):
        pytest.importorskip(name)
    out = run("benchmarks/tuning_samples.py", "frechet", "digits", "--few").splitlines()
    assert [line.split()[1].strip(",") for line in out[:3]] == ["ODE", "auto", "search"]
    assert len(out) == 4 and all(float(line.split()[-1]) > 0 for line in out)
