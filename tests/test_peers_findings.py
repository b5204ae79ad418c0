"""Where a peer is not right: what is wrong, by measurement, and that repairing it repairs it.
docs/peers.md tells the story."""

from __future__ import annotations

import math

import peers
import pytest
import torch
from peers import DPMPP, FACTOR, SIGN, THIRD, TO_QUIETEST
from problems import F64, rms

import flowsolve
from flowsolve import exact, solvers
from flowsolve.coordinates import DATA
from flowsolve.processes import LAMBDA

peers.installed("diffusers")
azula = peers.installed("azula.sample")

pytestmark = peers.MARKS
RANDOM = torch.Generator().manual_seed(1)
START = torch.randn(32, 2, dtype=F64, generator=RANDOM)
DRAWS = torch.randn(60, 32, 2, dtype=F64, generator=RANDOM)
POINT = exact.Dirac(peers.TABLE, [0.0, 0.0])
QUIETEST = peers.TABLE.level(0.0).sigma
GRIDS = pytest.mark.parametrize("grid", ["time", "karras"])


# Orders


@GRIDS
def test_dpmpp_3m_is_of_order_two(grid):
    """Its quadratic term is half of what it should be. Twice that is order 3, and flowsolve's
    dpmpp3m."""
    options = {**TO_QUIETEST, "solver_order": 3}
    assert peers.order(DPMPP, options, grid, first=2) == pytest.approx(2.0, abs=0.2)
    assert (
        peers.order(
            peers.repaired(peers.scheduler_class(DPMPP), THIRD, FACTOR), options, grid, first=2
        )
        > 2.7
    )


def test_dpmpp_3m_repaired_is_flowsolves():
    cls = peers.repaired(peers.scheduler_class(DPMPP), THIRD, FACTOR, SIGN)
    for algorithm, solver in (
        ("dpmsolver++", solvers.Multistep(solvers.Polynomial(3, DATA, LAMBDA))),
        ("sde-dpmsolver++", "dpmpp3m_sde"),
    ):
        options = {
            **peers.TABLE_OPTIONS,
            "solver_order": 3,
            "solver_type": "heun",
            "algorithm_type": algorithm,
        }
        b, scheduler = peers.theirs(cls, 20, START, options, noise=DRAWS)
        peers.assert_same(
            peers.ours(solver, peers.grid_of(scheduler, peers.TABLE), START, noise=DRAWS), b
        )


def sde_variance_error(cls, options, grid, n):
    options = {**TO_QUIETEST, "algorithm_type": "sde-dpmsolver++", **options}
    return peers.their_variance_error(cls, options, grid, n)


@GRIDS
def test_dpmpp_3m_sde_has_a_wrong_sign(grid):
    """The variance of Gaussian data: order 1 and 200 times the error it has with the sign
    mended."""
    cls = peers.scheduler_class(DPMPP)
    wrong = [sde_variance_error(cls, {"solver_order": 3}, grid, n) for n in (24, 48, 96)]
    assert peers.slope(wrong) < 1.1 and wrong[-1] > 5e-3
    assert (
        sde_variance_error(peers.repaired(cls, THIRD, SIGN), {"solver_order": 3}, grid, 96)
        < wrong[-1] / 200
    )
    assert peers.our_variance_error("dpmpp3m_sde", grid, 96) < wrong[-1] / 200


@GRIDS
def test_single_step_sde_solvers_of_diffusers(grid):
    """Order 3 does not converge; order 2 is worse than order 1, since the noise of its middle is
    thrown away."""
    cls = peers.scheduler_class("DPMSolverSinglestepScheduler")
    third = [
        sde_variance_error(cls, {"solver_order": 3, "solver_type": "heun"}, grid, n)
        for n in (24, 48, 96)
    ]
    assert min(third) > 10
    second, first = (sde_variance_error(cls, {"solver_order": k}, grid, 96) for k in (2, 1))
    assert second > 1.5 * first > 50 * peers.our_variance_error("dpmpp_sde", grid, 96)


@pytest.mark.parametrize(
    ("name", "options", "claimed"),
    [
        ("DEISMultistepScheduler", {"solver_order": 3}, 3),
        ("zAB", {"order": 4}, 4),
        ("xEAB", {"order": 3}, 3),
    ],
    ids=["DEIS3", "zAB4", "xEAB3"],
)
def test_multistep_peers_lose_their_order_in_the_first_step(name, options, claimed):
    """From exact first steps they have it. test_orders measures flowsolve's from its own start."""
    sampler = getattr(azula, f"{name}Sampler") if name.endswith("AB") else name
    assert peers.order(sampler, options, "karras") < 2.4
    assert peers.order(sampler, options, "karras", first=claimed - 1) > claimed - 0.4


@GRIDS
@pytest.mark.parametrize(
    ("name", "options", "first"),
    [("PNDM", {}, 0), ("PNDM", {"skip_prk_steps": True}, 0), ("IPNDM", {}, 3)],
)
def test_constant_step_coefficients_are_of_order_two(name, options, first, grid):
    assert peers.order(f"{name}Scheduler", options, grid, first=first) == pytest.approx(
        2.0, abs=0.3
    )


@GRIDS
@pytest.mark.parametrize("points", [1, 2, 3])
def test_unipc_is_right(points, grid):
    options = {**TO_QUIETEST, "solver_order": points, "lower_order_final": False}
    assert peers.order("UniPCMultistepScheduler", options, grid) > points + 0.75


@GRIDS
@pytest.mark.parametrize("k", [2, 3])
def test_azulas_reab_is_of_order_one(k, grid):
    """A σ_t where σ_s belongs, and with it the order that was asked for."""
    assert peers.order(azula.REABSampler, {"order": k}, grid, first=k - 1) == pytest.approx(
        1.0, abs=0.1
    )
    mended = peers.repaired(
        azula.REABSampler, "__call__", ("alpha_s**2 + sigma_t**2", "alpha_s**2 + sigma_s**2")
    )
    assert peers.order(mended, {"order": k}, grid, first=k - 1) > k - 0.4


# The end


@pytest.mark.parametrize(
    ("name", "options", "step"),
    [
        ("DEISMultistep", {}, {}),
        ("SASolver", {"tau_func": lambda t: 0.0}, {}),
        (
            "DDIM",
            {"clip_sample": False, "set_alpha_to_one": False},
            {},
        ),  # as Stable Diffusion is configured
        ("PNDM", {}, {}),
        ("EulerDiscrete", {"use_karras_sigmas": True}, {"s_churn": 10.0}),
        ("EulerDiscrete", {}, {}),
        ("DPMSolverMultistep", {}, {}),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_noise_left_in_the_result(name, options, step):
    """Data that are one point: what is not that point is noise that was not removed."""
    run, _ = peers.theirs(
        f"{name}Scheduler",
        20,
        START,
        {**peers.TABLE_OPTIONS, **options},
        model=POINT,
        noise=DRAWS,
        **step,
    )
    clean = name in ("EulerDiscrete", "DPMSolverMultistep") and not step
    assert rms(run.end) < 1e-12 if clean else rms(run.end) > 0.9 * QUIETEST


def test_churn_asks_before_it_adds_the_noise():
    """EDM's algorithm 2 asks the network at the state with the new noise; diffusers at the one
    without, and keeps that noise to the end."""
    options = {**peers.TABLE_OPTIONS, "use_karras_sigmas": True}
    run, scheduler = peers.theirs(
        "EulerDiscreteScheduler", 20, START, options, model=POINT, noise=DRAWS, s_churn=10.0
    )
    assert rms(run.end) > 1.2 * QUIETEST
    edm = solvers.Churn(solvers.DDIM(), s_churn=10.0, s_min=0.0, s_max=math.inf)
    grid = peers.grid_of(scheduler, peers.TABLE)
    assert rms(flowsolve.solve(POINT, solver=edm, grid=grid, start=START, noise=DRAWS).x) < 1e-12


def test_azulas_ito_sampler_keeps_the_noise_of_its_last_step():
    process = flowsolve.VP()
    point = exact.Dirac(process, [0.0, 0.0])
    times = [
        level.t
        for level in flowsolve.grids.Uniform().levels(
            process, 40, process.start, process.level(1e-3)
        )
    ]
    end = peers.drive_azula(azula.ItoSampler, times, START, point, DRAWS).end
    before, last = (process.level(t) for t in times[-2:])
    assert rms(end) > 10 * last.R.value and rms(end) == pytest.approx(
        math.sqrt(2) * before.sigma, rel=0.25
    )
    assert rms(
        flowsolve.solve(point, solver="ddpm", grid=times, start=START, noise=DRAWS).x
    ) == pytest.approx(last.R.value, rel=0.15)


@pytest.mark.parametrize("name", ["DEISMultistep", "SASolver"])
def test_an_evaluation_for_nothing(name):
    """The Karras grids of these two end on one level twice, and ask there twice."""
    scheduler = peers.scheduler_class(f"{name}Scheduler")(
        **peers.TABLE_OPTIONS, use_karras_sigmas=True
    )
    scheduler.set_timesteps(20)
    assert scheduler.sigmas[-1] == scheduler.sigmas[-2] > 0


def test_settings_that_fail():
    def run(name, options, n=10, shape=(1, 2)):
        scheduler = peers.scheduler_class(f"{name}Scheduler")(**options)
        scheduler.set_timesteps(n)
        x = torch.ones(shape)
        for t in scheduler.timesteps:
            x = scheduler.step(torch.tanh(x), t, x, return_dict=False)[0]
        return bool(torch.isfinite(x).all())

    assert run("UniPCMultistep", {**peers.TABLE_OPTIONS, "solver_type": "bh2"})
    assert not run(
        "UniPCMultistep", {**peers.TABLE_OPTIONS, "solver_type": "bh1"}
    )  # its last step is infinitely long in λ
    to_the_end = {**peers.TABLE_OPTIONS, "lower_order_final": False}
    assert not run("UniPCMultistep", to_the_end)
    with pytest.raises(torch.linalg.LinAlgError, match="singular"):
        run("UniPCMultistep", {**to_the_end, "solver_order": 3})
    assert not run("DDPM", {"variance_type": "fixed_large_log"})  # the square root of a logarithm
    with pytest.raises(UnboundLocalError):
        run("EDMDPMSolverMultistep", {"solver_order": 3, "algorithm_type": "sde-dpmsolver++"})


# Levels


def test_ddim_steps_to_one_level_and_asks_at_another():
    """On grids whose steps are not T // n: for one point at 0 a state is R times constant noise,
    which tells its level."""
    gaps = {}
    for spacing, n in (("leading", 20), ("trailing", 30), ("linspace", 20)):
        options = {**peers.TABLE_OPTIONS, "clip_sample": False, "timestep_spacing": spacing}
        run, scheduler = peers.theirs("DDIMScheduler", n, START, options, model=POINT)
        times = scheduler.timesteps.tolist()
        for x, y, s, asked in zip(run.states, run.states[1:], run.levels, times[1:], strict=False):
            ratio = float((y / x).mean()) * s.R.value
            reached = peers.TABLE.time_of(ratio / math.sqrt(1.0 - ratio**2))
            gaps[spacing] = max(gaps.get(spacing, 0.0), reached - asked)
    assert gaps["leading"] < 1e-6
    assert gaps["trailing"] == pytest.approx(1.0, abs=1e-6)
    assert gaps["linspace"] == pytest.approx(3.0, abs=1e-6)


def told_error(scheduler):
    """The largest relative error of σ̄ in what the network is told."""
    levels = peers.levels_of(scheduler, peers.TABLE)
    return max(
        abs(peers.TABLE.level(float(t)).sigma / v.sigma - 1.0)
        for t, v in zip(scheduler.timesteps, levels, strict=True)
    )


def test_times_are_rounded():
    error = {}
    for name in ("DPMSolverMultistep", "UniPCMultistep", "DEISMultistep", "EulerDiscrete"):
        for grid in ("karras", "exponential"):
            scheduler = peers.scheduler_class(f"{name}Scheduler")(
                **peers.TABLE_OPTIONS, **{f"use_{grid}_sigmas": True}
            )
            scheduler.set_timesteps(20)
            error[name, grid] = told_error(scheduler)
    assert all(e < 0.005 for (name, _), e in error.items() if name == "EulerDiscrete")
    for name in ("DPMSolverMultistep", "UniPCMultistep", "DEISMultistep"):
        assert 0.04 < error[name, "karras"] < 0.05  # to the nearest index
        assert 0.25 < error[name, "exponential"] < 0.3  # to the index below


@pytest.mark.parametrize("name", ["FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete"])
def test_the_last_level_is_shifted_twice(name):
    def shifted(u):
        return 3 * u / (1 + 2 * u)

    scheduler = peers.scheduler_class(f"{name}Scheduler")(shift=3.0)
    scheduler.set_timesteps(20)
    quietest = float(scheduler.sigmas[scheduler.sigmas > 0].min())
    assert quietest == pytest.approx(shifted(shifted(1e-3)), rel=1e-5) and quietest > 2.9 * shifted(
        1e-3
    )


def test_ipndm_does_not_listen_to_its_first_answer():
    """It begins at pure noise, where it divides 0 by 1e-8: x̂0 = 0 whatever a v-predicting network
    says, which is −x̂0 there."""

    def run(first):
        scheduler = peers.scheduler_class("IPNDMScheduler")()
        scheduler.set_timesteps(10)
        x = START.float()
        for k, t in enumerate(scheduler.timesteps):
            x = scheduler.step(torch.tanh(x) + (0 if k else first), t, x, return_dict=False)[0]
        return x

    assert torch.equal(run(0.0), run(5.0))
    process = flowsolve.RectifiedFlow()
    a, b = (
        flowsolve.sample(exact.Dirac(process, [p, p]), solver="ipndm4", nfe=1, start=START[:1])
        for p in (1.0, 2.0)
    )  # one evaluation at pure noise is all that one point needs
    torch.testing.assert_close(b, 2.0 * a)


def test_steps_are_not_evaluations():
    counts = {"DDIM": 20, "HeunDiscrete": 39, "KDPM2Discrete": 39, "PNDM": 29}
    for name, count in counts.items():
        scheduler = peers.scheduler_class(f"{name}Scheduler")()
        scheduler.set_timesteps(20)
        assert len(scheduler.timesteps) == count
    for solver in ("ddim", "heun", "dpm2", "pndm"):
        assert flowsolve.solve(POINT, solver=solver, nfe=20, start=START).nfe == 20


def test_float32_inside():
    """Tables are float32, and some schedulers cast a float64 state."""
    euler = peers.scheduler_class("EulerDiscreteScheduler")(**peers.TABLE_OPTIONS)
    sigmas = euler.sigmas.flip(0)[1:].double()
    errors = [
        abs(float(sigma) / peers.TABLE.level(i).sigma - 1.0) for i, sigma in enumerate(sigmas)
    ]
    assert 1e-6 < max(errors) < 1e-4
    scheduler = peers.scheduler_class(DPMPP)(**peers.TABLE_OPTIONS)
    scheduler.set_timesteps(20)
    run = peers.drive(scheduler, peers.mixture(peers.TABLE), START)
    wide, _ = peers.theirs(DPMPP, 20, START)
    assert run.end.dtype == F64 and 1e-8 < rms(run.end - wide.end) < 1e-4
