"""The benchmark of whole runs on a GPU works, with small networks on a CPU."""

import importlib

import pytest

pytest.importorskip("diffusers")


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")  # diffusers' own, and the scale of an untrained network
def test_all_of_it_runs(monkeypatch):
    runs = importlib.import_module("benchmarks.gpu_runs")
    monkeypatch.setattr(runs, "NFE", 2)
    found = runs.main(["--few", "--device", "cpu"])
    row = found["transformer"]["2, float32"]
    assert row["ddim"] > 0 and row["diffusers, DDIMScheduler"] > 0 and row["waits"] is None
    assert row["ddim, graph"] == "a CUDA graph needs a CUDA device; the model is on cpu"
