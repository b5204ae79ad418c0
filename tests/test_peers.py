"""Where a peer is right, flowsolve is equal to it: the same questions to the network and the same
end, to 1e-10.

docs/peers.md says which solver is which sampler elsewhere. Where a peer is not right, see
test_peers_findings.py.
"""

from __future__ import annotations

import itertools
import sys
from unittest import mock

import peers
import pytest
import torch
from problems import F64, elementwise, mixture_run

import flowsolve
from flowsolve import solvers
from flowsolve.coordinates import DATA, FLOW, NOISE
from flowsolve.processes import FLOW_TIME, LAMBDA

peers.installed("diffusers")
azula = peers.installed("azula.sample")
torchode = peers.installed("torchode")

pytestmark = peers.MARKS
RANDOM = torch.Generator().manual_seed(0)
START = torch.randn(4, 2, dtype=F64, generator=RANDOM)
NOISE_DRAWS = torch.randn(60, 4, 2, dtype=F64, generator=RANDOM)
SDE = solvers.ReverseSDE


def adams(*polynomial, **options):
    """The multistep method of a polynomial, without a corrector or a start."""
    return solvers.Multistep(solvers.Polynomial(*polynomial, **options))


def unipc(points, kind):
    weights = {"bh1": "bh1", "bh2": "midpoint"}[kind]
    predictor, corrector = (
        solvers.Polynomial(k, DATA, LAMBDA, weights) for k in (points, points + 1)
    )
    return solvers.Multistep(predictor, corrector)


def case(solver, name, end=True, **options):
    shown = ",".join(f"{key}={value}" for key, value in options.items() if not callable(value))
    return pytest.param(
        solver, f"{name}Scheduler", options, end, id=f"{name}-{shown}" if shown else name
    )


# A last step that a peer takes by its polynomial is where the two differ by design: flowsolve holds
# (see the findings).
BY_SIGMAS = [
    case("ddim", "EulerDiscrete"),
    case("heun", "HeunDiscrete"),
    case("dpm2", "KDPM2Discrete"),
    case("dpm2_a", "KDPM2AncestralDiscrete"),
    case(adams(4), "LMSDiscrete", end=False),
    case("dpmpp2m", "DPMSolverMultistep"),
    case("etd2", "DPMSolverMultistep", solver_type="heun"),
    case(
        adams(2, NOISE, LAMBDA),
        "DPMSolverMultistep",
        algorithm_type="dpmsolver",
        solver_type="heun",
        final_sigmas_type="sigma_min",
    ),
    case("dpmpp2m_sde", "DPMSolverMultistep", algorithm_type="sde-dpmsolver++"),
    case(
        SDE(adams(2, DATA, LAMBDA)),
        "DPMSolverMultistep",
        algorithm_type="sde-dpmsolver++",
        solver_type="heun",
    ),
    case(adams(2, NOISE, LAMBDA), "DEISMultistep"),
    case(adams(3, NOISE, LAMBDA), "DEISMultistep", solver_order=3),
    case("unipc1", "UniPCMultistep", solver_order=1),
    case("unipc2", "UniPCMultistep", solver_order=2),
    case(
        unipc(3, "bh2"),
        "UniPCMultistep",
        solver_order=3,
        lower_order_final=False,
        final_sigmas_type="sigma_min",
    ),
    case(unipc(1, "bh1"), "UniPCMultistep", end=False, solver_order=1, solver_type="bh1"),
    case(unipc(2, "bh1"), "UniPCMultistep", end=False, solver_order=2, solver_type="bh1"),
    case(
        unipc(3, "bh1"),
        "UniPCMultistep",
        solver_order=3,
        solver_type="bh1",
        lower_order_final=False,
        final_sigmas_type="sigma_min",
    ),
]


@pytest.mark.parametrize("karras", [False, True], ids=["linspace", "karras"])
@pytest.mark.parametrize(("solver", "name", "options", "end"), BY_SIGMAS)
def test_schedulers_with_sigmas(solver, name, options, end, karras):
    b, scheduler = peers.theirs(
        name,
        20,
        START,
        {**peers.TABLE_OPTIONS, **options, "use_karras_sigmas": karras},
        noise=NOISE_DRAWS,
    )
    a = peers.ours(solver, peers.grid_of(scheduler, peers.TABLE), START, noise=NOISE_DRAWS)
    if len(b.states) > len(
        a.states
    ):  # the last two sigmas of some Karras grids are the same: an evaluation for nothing
        assert scheduler.sigmas[-1] == scheduler.sigmas[-2]
        b = peers.Run(b.levels[:-1], b.states[:-1], b.states[-1])
    peers.assert_same(a, b, end)


@pytest.mark.parametrize(
    ("solver", "options"),
    [("dpmpp2s", {}), ("dpm2", {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"})],
)
def test_single_step_dpm_solver(solver, options):
    """On a grid even in λ, where every second of the peer's levels is the middle of a step."""
    options = {
        **peers.TABLE_OPTIONS,
        "use_exponential_sigmas": True,
        "lower_order_final": True,
        **options,
    }
    b, scheduler = peers.theirs("DPMSolverSinglestepScheduler", 25, START, options)
    a = peers.ours(solver, peers.grid_of(scheduler, peers.TABLE, 2), START)
    peers.assert_same(
        a, b._replace(levels=b.levels[: len(a.levels)], states=b.states[: len(a.states)])
    )


def test_euler_ancestral():
    b, scheduler = peers.theirs("EulerAncestralDiscreteScheduler", 20, START, noise=NOISE_DRAWS)
    peers.assert_same(
        peers.ours("euler_a", peers.grid_of(scheduler, peers.TABLE), START, noise=NOISE_DRAWS), b
    )


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim(eta):
    b, scheduler = peers.theirs(
        "DDIMScheduler",
        20,
        START,
        {**peers.TABLE_OPTIONS, "clip_sample": False},
        noise=NOISE_DRAWS,
        **({"eta": eta} if eta else {}),
    )
    peers.assert_same(
        peers.ours(
            "ddim", peers.grid_of(scheduler, peers.TABLE), START, eta=eta, noise=NOISE_DRAWS
        ),
        b,
    )


@pytest.mark.parametrize(
    ("solver", "variance"),
    [("ddpm", "fixed_small"), ("ddpm", "fixed_small_log"), ("ddpm_large", "fixed_large")],
    ids=lambda v: v,
)
def test_ddpm(solver, variance):
    options = {
        **peers.TABLE_OPTIONS,
        "clip_sample": False,
        "variance_type": variance,
        "timestep_spacing": "linspace",
    }
    b, scheduler = peers.theirs("DDPMScheduler", 17, START, options, noise=NOISE_DRAWS)
    peers.assert_same(
        peers.ours(solver, peers.grid_of(scheduler, peers.TABLE), START, noise=NOISE_DRAWS), b
    )


def test_plms():
    b, scheduler = peers.theirs(
        "PNDMScheduler",
        20,
        START,
        {**peers.TABLE_OPTIONS, "skip_prk_steps": True, "set_alpha_to_one": True},
    )
    assert len(b.states) == 21
    peers.assert_same(
        peers.ours("plms", peers.grid_of(scheduler, peers.TABLE), START), b, end=False
    )


def test_pndm_places_its_stages_otherwise():
    """In the middle of the step in σ̄, not in the index: flowsolve's Runge-Kutta start has order 4
    on any grid."""
    b, scheduler = peers.theirs(
        "PNDMScheduler", 20, START, {**peers.TABLE_OPTIONS, "set_alpha_to_one": True}
    )
    a = peers.ours("pndm", peers.grid_of(scheduler, peers.TABLE), START)
    assert len(a.states) == len(b.states) == 29
    assert [level.t for level in a.levels][::4] == pytest.approx(
        [level.t for level in b.levels][::4]
    )
    s, t = (peers.TABLE.level(time).sigma for time in (950.0, 900.0))
    assert a.levels[1].sigma == pytest.approx((s + t) / 2) and b.levels[1].t == 925.0


def test_ipndm():
    process = flowsolve.VP()
    levels = flowsolve.grids.Karras().levels(
        process, 16, process.at("sigma", 50.0), process.at("sigma", 0.02)
    )
    options = {"num_train_timesteps": 16, "trained_betas": [level.R.value for level in levels]}
    b, _ = peers.theirs("IPNDMScheduler", 16, START, options, process, predicts="v")
    a = peers.ours(adams(4, weights="constant_step"), [level.t for level in levels], START, process)
    peers.assert_same(a, b)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize(
    ("solver", "name"),
    [("flow_euler", "FlowMatchEulerDiscrete"), ("flow_heun", "FlowMatchHeunDiscrete")],
)
def test_flow_matching(solver, name, shift):
    """From pure noise to clean data."""
    process = flowsolve.RectifiedFlow()
    b, scheduler = peers.theirs(
        f"{name}Scheduler", 20, START, {"shift": shift}, process, predicts="velocity"
    )
    assert b.levels[0].pure_noise
    peers.assert_same(
        peers.ours(solver, peers.grid_of(scheduler, process), START, process, "velocity"), b
    )


@pytest.mark.parametrize("solver", ["ddim", "dpmpp2m"])
def test_edm(solver):
    process = flowsolve.EDM()
    name = {"ddim": "EDMEulerScheduler", "dpmpp2m": "EDMDPMSolverMultistepScheduler"}[solver]
    b, scheduler = peers.theirs(name, 18, 80.0 * START, {}, process, predicts="F")
    peers.assert_same(
        peers.ours(solver, peers.grid_of(scheduler, process), 80.0 * START, process, "F"), b
    )


@pytest.mark.parametrize("tau", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("points", [1, 2, 3])
def test_sa_solver(points, tau):
    """diffusers weights two points as for a short step (B₁); without that the orders 3 and 4 are
    the row ``sa``."""
    options = {
        **peers.TABLE_OPTIONS,
        "predictor_order": points,
        "corrector_order": points + 1,
        "lower_order_final": False,
    }
    options["tau_func"] = lambda t: tau
    b, scheduler = peers.theirs("SASolverScheduler", 20, START, options, noise=NOISE_DRAWS)
    grid = peers.grid_of(scheduler, peers.TABLE)
    peers.assert_same(peers.ours(SDE(unipc(points, "bh1"), tau), grid, START, noise=NOISE_DRAWS), b)
    if points == 3:
        cls = peers.scheduler_class("SASolverScheduler")
        for method in ("stochastic_adams_bashforth_update", "stochastic_adams_moulton_update"):
            cls = peers.repaired(cls, method, ("order == 2\n", "False\n"))
        b, _ = peers.theirs(cls, 20, START, options, noise=NOISE_DRAWS)
        peers.assert_same(peers.ours("sa", grid, START, noise=NOISE_DRAWS, lam=tau), b)


INSTALLED = {
    "DDIM": "ddim",
    "DDPM": "ddpm",
    "EulerDiscrete": "ddim",
    "EulerAncestralDiscrete": "euler_a",
    "HeunDiscrete": "heun",
    "DPMSolverMultistep": "dpmpp2m",
    "UniPCMultistep": "unipc2",
}


@pytest.mark.parametrize("name", INSTALLED)
def test_float32_as_installed(name):
    """A network that is told integer times, no float64 anywhere: the peer as its users run it."""
    cls = peers.scheduler_class(f"{name}Scheduler")
    options = {"clip_sample": False} if name in ("DDIM", "DDPM") else {}
    scheduler = cls(**peers.TABLE_OPTIONS, timestep_spacing="trailing", **options)
    scheduler.set_timesteps(20)
    # The peer's table is float32 and its own: take it as it is.
    kept = [1.0, *scheduler.alphas_cumprod.double().tolist()]
    process = flowsolve.VP.discrete([1.0 - b / a for a, b in itertools.pairwise(kept)])
    start, noise = (
        torch.randn(3, 4, 8, 8, generator=RANDOM),
        torch.randn(40, 3, 4, 8, 8, generator=RANDOM),
    )
    queue, x = iter(noise), start / process.start.A.value if peers.scaled(scheduler) else start
    with mock.patch.dict(
        vars(sys.modules[cls.__module__]), {"randn_tensor": lambda *_, **__: next(queue)}
    ):
        for t in scheduler.timesteps:
            inputs = scheduler.scale_model_input(x, t)
            x = scheduler.step(
                elementwise(inputs, torch.full((3,), float(t))), t, x, return_dict=False
            )[0]
    model = flowsolve.Denoiser(elementwise, process, "eps", (4, 8, 8))
    times = [*dict.fromkeys(float(t) for t in scheduler.timesteps), -1.0]
    solution = flowsolve.solve(model, solver=INSTALLED[name], grid=times, start=start, noise=noise)
    assert solution.x.dtype == x.dtype == torch.float32 and solution.nfe == len(scheduler.timesteps)
    torch.testing.assert_close(solution.x, x, rtol=1e-5, atol=1e-5 * float(x.abs().max()))


SCALED = [
    "EulerDiscrete",
    "EulerAncestralDiscrete",
    "HeunDiscrete",
    "KDPM2Discrete",
    "KDPM2AncestralDiscrete",
    "LMSDiscrete",
]
NAMED = [
    "DDIM",
    "DDPM",
    *SCALED,
    "EDMEuler",
    "EDMDPMSolverMultistep",
    "FlowMatchEulerDiscrete",
    "FlowMatchHeunDiscrete",
]
NAMED += ["DPMSolverMultistep", "DEISMultistep", "UniPCMultistep", "SASolver"]


@pytest.mark.parametrize("name", NAMED)
def test_a_class_name_stands_for_its_levels(name):
    """Within an index: of a table flowsolve takes entries, most of the schedulers interpolate, some
    round the other way."""
    process = (
        flowsolve.RectifiedFlow()
        if name.startswith("Flow")
        else flowsolve.EDM()
        if name.startswith("EDM")
        else peers.TABLE
    )
    scheduler = peers.scheduler_class(f"{name}Scheduler")(
        **(peers.TABLE_OPTIONS if process is peers.TABLE else {})
    )
    scheduler.set_timesteps(20)
    theirs = [level.t for level in peers.levels_of(scheduler, process)]
    asked = []
    model = flowsolve.Denoiser(
        lambda x, t: asked.append(float(t[0])) or x, process, "flow", (2,), dtype=F64, time="t"
    )
    flowsolve.solve(
        model, solver=f"{name}Scheduler", nfe=len(theirs), start=START, noise=NOISE_DRAWS
    )
    assert asked == pytest.approx(theirs, rel=1e-5, abs=1.01 if process is peers.TABLE else 1e-5)


AZULA = [
    ("ddim", "Euler", {}),
    ("ddim", "Ito", {"eta": 0.0}),
    ("ddpm", "DDPM", {}),
    ("heun", "Heun", {}),
    *((adams(k), "zAB", {"order": k}) for k in (2, 3, 4)),
    *((adams(k, FLOW, FLOW_TIME), "vAB", {"order": k}) for k in (2, 3, 4)),
    *((adams(k, NOISE, LAMBDA), "zEAB", {"order": k}) for k in (2, 3, 4)),
    *((adams(k, DATA, LAMBDA), "xEAB", {"order": k}) for k in (2, 3, 4)),
]


@pytest.mark.parametrize("grid", ["uniform", "karras"])
@pytest.mark.parametrize(
    ("solver", "name", "options"),
    AZULA,
    ids=[f"{name}{options.get('order', '')}" for _, name, options in AZULA],
)
def test_azula(solver, name, options, grid):
    process = flowsolve.VP()
    levels = flowsolve.grids.GRIDS[grid]().levels(
        process, 16, process.at("sigma", 20.0), process.at("sigma", 0.05)
    )
    times = [level.t for level in levels]
    b = peers.drive_azula(
        getattr(azula, f"{name}Sampler"),
        times,
        START,
        peers.mixture(process),
        NOISE_DRAWS,
        **options,
    )
    peers.assert_same(peers.ours(solver, times, START, process, noise=NOISE_DRAWS), b)


@pytest.mark.parametrize("eta", [0.25, 0.5, 1.0])
def test_azula_ddim(eta):
    """azula's η multiplies the variance, the paper's the standard deviation: one is the other's
    square."""
    process = flowsolve.VP()
    times = [
        level.t
        for level in flowsolve.grids.GRIDS["logsnr"]().levels(
            process, 16, process.at("sigma", 20.0), process.at("sigma", 0.05)
        )
    ]
    b = peers.drive_azula(
        azula.DDIMSampler, times, START, peers.mixture(process), NOISE_DRAWS, eta=eta**2
    )
    peers.assert_same(peers.ours("ddim", times, START, process, eta=eta, noise=NOISE_DRAWS), b)


def test_azula_pc():
    """azula corrects before a step, flowsolve after it: the same run but for azula's first
    correction, here one that changes nothing."""
    process, snr = flowsolve.VP(), 0.16
    levels = flowsolve.grids.GRIDS["logsnr"]().levels(
        process, 10, process.at("sigma", 20.0), process.at("sigma", 0.05)
    )
    times, delta, model = [level.t for level in levels], 4 * snr**2, peers.mixture(process)
    nothing = model(START, levels[0]).eps * ((1 - (1 - delta) ** 0.5) / delta**0.5)
    b = peers.drive_azula(
        azula.PCSampler, times, START, model, [nothing, *NOISE_DRAWS], delta=delta
    )
    a = peers.ours("pc", times, START, process, noise=NOISE_DRAWS, snr=snr)
    peers.assert_same(
        peers.Run(a.levels[:-1], a.states[:-1], a.states[-1]),
        peers.Run(b.levels[1:], b.states[1:], b.end),
    )


class TestTorchode:
    """An independent Dormand-Prince with a step size for each sample."""

    process = flowsolve.VP()

    def solve(self, model, start, span, tolerance):
        s, t = (self.process.level(time) for time in span)

        def slope(sigmas, y):
            levels = [self.process.at("sigma", float(sigma)) for sigma in sigmas]
            return torch.cat(
                [
                    model(level.A.value * row[None], level).eps
                    for level, row in zip(levels, y, strict=True)
                ]
            )

        term = torchode.ODETerm(slope)
        step, control = (
            torchode.Dopri5(term=term),
            torchode.IntegralController(atol=tolerance, rtol=tolerance, term=term),
        )
        times = torch.tensor([[s.sigma, t.sigma]], dtype=F64).repeat(len(start), 1)
        problem = torchode.InitialValueProblem(y0=start / s.A.value, t_eval=times)
        return torchode.AutoDiffAdjoint(step, control).solve(problem).ys[:, -1] * t.A.value

    def test_dopri5_is_the_solution(self):
        model, start, end, span = mixture_run(self.process, 2.0, 0.4)
        b = self.solve(model, start[:6], span, 1e-9)
        a = flowsolve.solve(
            model, solver="dopri5", rtol=1e-9, atol=1e-9, grid=list(span), start=start[:6]
        ).x
        torch.testing.assert_close(a, b, rtol=0, atol=1e-8)
        torch.testing.assert_close(end[:6], b, rtol=0, atol=1e-8)

    def test_a_sample_depends_on_its_neighbours_in_torchdiffeq_alone(self):
        model, start, _, span = mixture_run(self.process, 2.0, 0.4)

        def gap(run):
            return float((run(start[:1]) - run(start[:6])[:1]).abs().max())

        def ours(solver):
            return lambda x: (
                flowsolve.solve(
                    model, solver=solver, rtol=1e-4, atol=1e-4, grid=list(span), start=x
                ).x
            )

        assert gap(lambda x: self.solve(model, x, span, 1e-4)) < 1e-14
        assert gap(ours("adaptive")) < 1e-14
        assert 1e-6 < gap(ours("dopri5")) < 1e-3


@pytest.mark.parametrize("steps", [7, 10, 20, 33])
@pytest.mark.parametrize(
    "name",
    [f"{kind}Multistep" for kind in ("DEIS", "DPMSolver", "UniPC")]
    + ["DPMSolverSinglestep", "SASolver"],
)
def test_class_names_stand_for_the_class_s_own_timesteps(name, steps):
    """ "linspace" of these classes is not that of the others: n + 1 places, and the last left
    out."""
    name += "Scheduler"
    scheduler = peers.scheduler_class(name)()
    scheduler.set_timesteps(steps)
    meant = flowsolve.solvers.find_solver(name)[1]
    levels = flowsolve.grids.find_grid(meant, peers.TABLE).levels(peers.TABLE, steps)
    assert [level.t for level in levels[:-1]] == scheduler.timesteps.tolist()


@pytest.mark.parametrize("name", ["DDIM", "DDPM", "EulerDiscrete", "HeunDiscrete", "LMSDiscrete"])
def test_class_names_of_the_others(name):
    scheduler = peers.scheduler_class(f"{name}Scheduler")()
    scheduler.set_timesteps(10)
    meant = flowsolve.solvers.find_solver(f"{name}Scheduler")[1]
    levels = flowsolve.grids.find_grid(meant, peers.TABLE).levels(peers.TABLE, 10)
    theirs = dict.fromkeys(scheduler.timesteps.tolist())  # Heun's have each twice
    assert [level.t for level in levels[:-1]] == [*theirs]
