"""The benchmark of tuned plans, small; and a network of its collection, trained for a moment."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import peers
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


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """What a benchmark says, in this process, which may have imported the peers before; jobs in
    threads."""
    peers.installed("diffusers")
    peers.installed("azula.sample")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))

    def run(name: str, *arguments: str) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = importlib.import_module(name)
            monkeypatch.setattr(module, "ProcessPoolExecutor", ThreadPoolExecutor, raising=False)
            module.main([*arguments])
        return capsys.readouterr().out

    return run


@pytest.mark.peers
def test_the_bench_runs(script):
    out = script("tuning", "bench", "--few", "--budgets", "3")
    assert out.startswith("mixture, EDM 3 auto ") and "; search " in out


@pytest.mark.late
def test_a_network_is_trained(tmp_path):
    rng = np.random.default_rng(0)
    for k in range(2):
        pixels = rng.integers(0, 255, (150, 140, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
    where = ("--data", str(tmp_path), "--out", str(tmp_path / "out"))
    run("benchmarks/networks.py", "photos16-cosine", *where, "--seconds", "1", "--batch", "2")
    assert (tmp_path / "out" / "photos16-cosine.pt").stat().st_size > 4e6


@pytest.mark.late
@pytest.mark.peers
def test_what_plans_are_worth_elsewhere_runs(script):
    out = script("tuning_samples", "frechet", "digits", "--few").splitlines()
    assert [line.split()[1].strip(",") for line in out[:3]] == ["ODE", "auto", "search"]
    assert len(out) == 4 and all(float(line.split()[-1]) > 0 for line in out)
