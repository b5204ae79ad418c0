"""The benchmark on a network that diffusers' own loop trained, with twenty steps of training and
few of everything."""

from __future__ import annotations

import json
import math

import numpy as np
import peers
import pytest
import torch

import flowsolve

peers.installed("diffusers")
peers.installed("sklearn")
pytestmark = peers.MARKS


@pytest.fixture
def images(tmp_path):
    from flowsolve.models.data import data

    split = data()
    large = torch.nn.functional.interpolate(split.held_out[:80], (28, 28))
    bytes_ = ((large[:, 0] + 1) * 127.5).round().to(torch.uint8).numpy()
    np.savez(tmp_path / "images.npz", images=bytes_, labels=split.held_out_labels[:80].numpy())
    return tmp_path / "images.npz"


@pytest.mark.late
def test_the_script_trains_and_makes_its_figures(images, tmp_path, capsys, monkeypatch):
    from benchmarks import pipeline, pipeline_train

    # A sixteenth of the network, of the same parts.
    smaller, whole = (8, 16, 16), pipeline_train.network()
    parts = {**whole.config, "block_out_channels": smaller}
    monkeypatch.setattr(pipeline_train, "network", lambda size: type(whole).from_config(parts))
    threads, out = torch.get_num_threads(), tmp_path / "pipe"
    try:
        how = ["--data", str(images), "--out", str(out), "--steps", "20", "--batch", "4"]
        with torch.random.fork_rng():
            pipeline_train.main(how)
            capsys.readouterr()
            pipeline.main(["--pipeline", str(out), "--data", str(images), "--few"])
    finally:
        torch.set_num_threads(threads)
    said = capsys.readouterr().out
    found = json.loads(said[said.index("{\n") :])
    assert found["training"]["steps"] == 20 and found["training"]["loss_last_fifth"] > 0
    labels = {*pipeline.THEIRS, *(f"flowsolve {name}" for name in pipeline.OURS)}
    assert found["error"].keys() == labels
    for errors in found["error"].values():
        assert all(math.isfinite(error) for error in errors.values())
    # What it left is a pipeline like any other.
    assert flowsolve.sample(flowsolve.load(out), nfe=2, n=1, seed=0).shape == (1, 1, 28, 28)
