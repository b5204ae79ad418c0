"""A grid shifted: what it is, that shifts multiply, that ends stay."""

from __future__ import annotations

import itertools
import math

import pytest

import flowsolve
from flowsolve.grids import GRIDS, Karras, Shift, Shifted, find_grid

FLOW, EDM, VP = flowsolve.RectifiedFlow(), flowsolve.EDM(), flowsolve.VP()
TABLE = flowsolve.VP.discrete(flowsolve.tables.linear())


def sigmas(grid, process, n=8, **ends):
    return [level.sigma for level in grid.levels(process, n, **ends)]


def test_of_equal_steps_in_a_flow_it_is_stable_diffusion_3s():
    ours, theirs = Shift("trailing", 3.0), Shifted(3.0)
    assert sigmas(ours, FLOW)[1:] == pytest.approx(sigmas(theirs, FLOW)[1:], rel=1e-12)


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("process", [FLOW, EDM, VP, TABLE], ids=["flow", "edm", "vp", "table"])
def test_every_grid_can_be_shifted(name, process):
    plain, noisy = find_grid(name, process), Shift(name, 3.0)
    before, after = sigmas(plain, process), sigmas(noisy, process)
    assert after[0] == before[0] and after[-1] == before[-1] == 0.0
    assert all(a > b for a, b in zip(after[1:-1], before[1:-1], strict=True))
    assert sigmas(Shift(name, 1.0), process)[1:-1] == pytest.approx(before[1:-1], rel=1e-9)
    # Two are one, by the product.
    twice = sigmas(Shift(Shift(name, 2.0), 1.5), process)
    assert twice[1:] == pytest.approx(after[1:], rel=1e-9)
    run = flowsolve.plan("vpc2", process, nfe=8, grid=noisy)
    assert run.nfe == flowsolve.plan("vpc2", process, nfe=8, grid=plain).nfe


def test_from_pure_noise_it_is_a_factor():
    before, after = sigmas(Karras(), FLOW), sigmas(Shift(Karras(), 2.5), FLOW)
    assert after[1:] == pytest.approx([2.5 * s for s in before[1:]], rel=1e-9)


def test_towards_data_and_between_other_ends():
    before, after = sigmas(Karras(), EDM), sigmas(Shift(Karras(), 0.2), EDM)
    assert all(a < b for a, b in zip(after[1:-2], before[1:-2], strict=True))
    assert after[-2] >= EDM.sigma_min * (1 - 1e-12)
    ends = dict(start=EDM.level(10.0), end=EDM.level(0.5))
    between = sigmas(Shift("karras", 3.0), EDM, **ends)
    assert between[0] == 10.0 and between[-1] == 0.5
    assert all(a > b for a, b in itertools.pairwise(between))


def test_auto_and_times_of_ones_own_can_be_shifted():
    def center(shift):
        on = flowsolve.RectifiedFlow(shift=shift)
        return flowsolve.solvers.find_solver("auto", None, 8, on)[1].center

    # Of a flow that was shifted the center is at σ̄ = shift, unless large pictures' is farther.
    assert center(6.0) == pytest.approx(6.0)
    assert center(1.5) == center(1.0) == pytest.approx(0.28 * 8)
    assert sigmas(Shift([1.0, 0.5, 0.0], 3.0), FLOW, 2) == pytest.approx([math.inf, 3.0, 0.0])


def test_what_cannot_be_shifted():
    with pytest.raises(ValueError, match=r"shift=0: expected a number from 0\.001 to 1000"):
        Shift("karras", 0)
    with pytest.raises(ValueError, match="Did you mean 'karras'"):
        Shift("karas", 2.0)
    with pytest.raises(ValueError, match="is no number where A and R are"):
        Shift("quadratic", 2.0).levels(flowsolve.CLD(), 5)
