"""The arrays of the DDIM authors' released samplers, through the public call."""

from pathlib import Path

import numpy as np
import pytest
import torch

import flowsolve

DATA = np.load(Path(__file__).parent / "ddim_official.npz")
CASES = sorted({key.rsplit("/", 1)[0] for key in DATA.files if "/" in key})


def network(x, t):
    t = t.view(-1, 1, 1, 1)
    return 0.9 * torch.tanh(x * (0.5 + t / 1000)) + 0.1 * torch.cos(t / 100 + x)


@pytest.mark.parametrize("case", CASES)
def test_official_samplers(case):
    kind, steps, how = case.split("-")
    process = flowsolve.VP.discrete(DATA["betas"])
    large = how == "ddpm_fixedlarge"
    # The authors' ancestral sampler tells the network its index in float32, and the toy network
    # computes with it.
    net = (lambda x, t: network(x, t.float())) if large else network
    model = flowsolve.Denoiser(
        net,
        process,
        "eps",
        (3, 4, 4),
        dtype=torch.float64,
        correct_x0=flowsolve.clip() if large else None,
    )
    solver = (
        {"solver": "ddpm_large"}
        if large
        else {"solver": "ddim", "eta": float(how.removeprefix("eta"))}
    )
    solution = flowsolve.solve(
        model,
        **solver,
        nfe=int(steps),
        grid={"uniform": "uniform", "quad": "quadratic"}[kind],
        start=torch.from_numpy(DATA["x_T"]),
        noise=torch.from_numpy(DATA["noise"]),
        keep=("path", "x0"),
    )
    assert [level.t for level in solution.grid[:-1]] == DATA[f"{case}/tau"][::-1].tolist()
    assert solution.grid[-1].clean and solution.nfe == int(steps)
    np.testing.assert_allclose(solution.path.numpy(), DATA[f"{case}/x"], rtol=0, atol=1e-10)
    np.testing.assert_allclose(solution.x.numpy(), DATA[f"{case}/x"][-1], rtol=0, atol=1e-10)
    if not large:  # not recorded there
        np.testing.assert_allclose(solution.x0_path.numpy(), DATA[f"{case}/x0"], rtol=0, atol=1e-10)


def test_every_case_is_covered():
    assert len(CASES) == 7
