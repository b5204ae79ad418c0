"""Pipelines of diffusers with tiny random networks: FlowsolveScheduler does what the pipeline's own
scheduler does, and every other solver in as many evaluations as it was told.

Tolerances are of float32, relative to the largest latent: a few steps' rounding, 5e-6, where both
compute the same; 1e-5 where diffusers' own sigmas are float32 quantiles.
"""

from __future__ import annotations

import copy
import threading

import peers
import pytest
import tiny
import torch

import flowsolve
from flowsolve import solver_table

diffusers = peers.installed("diffusers")
integration = peers.installed("flowsolve.integrations.diffusers")
FlowsolveScheduler, Levels = integration.FlowsolveScheduler, integration.Levels

pytestmark = peers.MARKS
#: The solver that each of these schedulers is, where it is one.
SAME = {
    "DDPMScheduler": "ddpm",
    "DPMSolverMultistepScheduler": "dpmpp2m",
    "UniPCMultistepScheduler": "unipc2",
}
FIXED = [row.name for row in solver_table() if row.solver.fixed]


def run(pipe, call, n, scheduler=None, **given):
    """The latents (or the images, where a pipeline gives no latents) after n steps, and how often
    the network was asked."""
    base, net = pipe.scheduler, tiny.network(pipe)
    pipe.scheduler = base if scheduler is None else scheduler
    pipe.set_progress_bar_config(disable=True)
    asked = []
    hook = net.register_forward_hook(lambda *_: asked.append(1))
    kind = "np" if type(pipe).__name__ in ("DDPMPipeline", "DiTPipeline") else "latent"
    given.setdefault("generator", torch.Generator().manual_seed(0))
    try:
        out = pipe(**{**call, **given}, num_inference_steps=n, output_type=kind)
    finally:
        hook.remove()
        pipe.scheduler = base
    return torch.as_tensor(out[0]), len(asked)


def off(x, y):
    """The largest difference, of the largest value."""
    return float((x - y).abs().max() / y.abs().max())


# What their own scheduler does

#: DPM-Solver and UniPC tell a flow's network times that are cut to integers.
CUT = {"sana": 1e-2, "wan": 2e-2}


@pytest.mark.parametrize("family", [f for f in tiny.FAMILIES if f != "audio"])
def test_a_pipeline_ends_where_its_own_scheduler_takes_it(family):
    pipe, call = tiny.FAMILIES[family]()
    name = type(pipe.scheduler).__name__
    ours = FlowsolveScheduler.of(pipe.scheduler, SAME.get(name, "ddim"), "base", final="base")
    (x, _), (y, asked) = run(pipe, call, 10), run(pipe, call, 10, ours)
    passes = 2 if family in ("wan",) else 1  # guidance in two calls
    assert asked == 10 * passes
    assert off(y, x) < CUT.get(family, 1e-5 if family == "ddpm" else 5e-6)


@pytest.mark.parametrize("family", CUT)
def test_told_the_same_integers_it_ends_where_they_do(family):
    pipe, call = tiny.FAMILIES[family]()
    net = tiny.network(pipe)
    ours = FlowsolveScheduler.of(pipe.scheduler, SAME[type(pipe.scheduler).__name__], "base")

    def cut(_, args, given):
        return args, {**given, "timestep": given["timestep"].to(torch.int64)}

    x, _ = run(pipe, call, 10)
    hook = net.register_forward_pre_hook(cut, with_kwargs=True)
    try:
        y, _ = run(pipe, call, 10, ours)
    finally:
        hook.remove()
    assert off(y, x) < 5e-6


BASES = {
    "euler leading": ("EulerDiscrete", dict(timestep_spacing="leading", steps_offset=1)),
    "euler linspace": ("EulerDiscrete", dict(timestep_spacing="linspace")),
    "euler trailing": ("EulerDiscrete", dict(timestep_spacing="trailing")),
    "euler karras": ("EulerDiscrete", dict(use_karras_sigmas=True)),
    "euler exponential": ("EulerDiscrete", dict(use_exponential_sigmas=True)),
    "euler beta": ("EulerDiscrete", dict(use_beta_sigmas=True)),
    "dpm leading": ("DPMSolverMultistep", dict(timestep_spacing="leading", steps_offset=1)),
    "dpm linspace": ("DPMSolverMultistep", dict(timestep_spacing="linspace")),
    "dpm trailing": ("DPMSolverMultistep", dict(timestep_spacing="trailing")),
    "unipc leading": ("UniPCMultistep", dict(timestep_spacing="leading", steps_offset=1)),
    "unipc linspace": ("UniPCMultistep", dict(timestep_spacing="linspace")),
    "unipc trailing": ("UniPCMultistep", dict(timestep_spacing="trailing")),
    "ddim v, zero snr": (
        "DDIM",
        dict(
            clip_sample=False,
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
        ),
    ),
    "ddim x0": ("DDIM", dict(clip_sample=False, prediction_type="sample")),
}


@pytest.mark.parametrize("name", BASES)
def test_every_spacing_means_what_it_means_there(name):
    pipe, call = tiny.sd()
    kind, options = BASES[name]
    base = getattr(diffusers, f"{kind}Scheduler")(**tiny.SD_TABLE, **options)
    solver = SAME.get(type(base).__name__, "ddim")
    x, _ = run(pipe, call, 10, base)
    y, _ = run(pipe, call, 10, FlowsolveScheduler.of(base, solver, final="base"))
    # From x0 the noise is had by a division by R, .04 at the last of these levels.
    tolerance = 3e-5 if name == "ddim x0" else 1e-5 if "use_" in str(options) else 5e-6
    assert off(y, x) < tolerance


@pytest.mark.parametrize("options", [dict(clip_sample=True), dict(thresholding=True)])
def test_clipping_as_ddim_does_it_when_it_is_told_to(options):
    # Only then does it derive the noise again from the clipped estimate.
    base = diffusers.DDIMScheduler(**{"clip_sample": False, **options})
    ours = FlowsolveScheduler.of(base, "ddim", "base")
    net, x = tiny.unet2d(), tiny.random(2, 3, 8, 8)
    y = x
    base.set_timesteps(10), ours.set_timesteps(10)
    for t in base.timesteps:
        x = base.step(net(x, t).sample, t, x, use_clipped_model_output=True).prev_sample
        y = ours.step(net(y, t).sample, t, y).prev_sample
    assert off(y, x) < 1e-5


def test_pndm_is_plms_on_its_times():
    # Stable Diffusion's own default repeats its second time; the levels are those without.
    pndm = diffusers.PNDMScheduler(**tiny.SD_TABLE, skip_prk_steps=True, steps_offset=1)
    ddim = diffusers.DDIMScheduler(**tiny.SD_TABLE, steps_offset=1)
    process = FlowsolveScheduler.of(ddim).process
    assert Levels(pndm).levels(process, 10) == Levels(ddim).levels(process, 10)


def test_euler_of_mochi_with_its_sigmas_turned_round():
    base = diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    plain = FlowsolveScheduler.of(diffusers.FlowMatchEulerDiscreteScheduler(), "ddim")
    ours = FlowsolveScheduler.of(base, "ddim")
    net, x = tiny.unet2d(), tiny.random(2, 3, 8, 8)
    base.set_timesteps(8), ours.set_timesteps(8), plain.set_timesteps(8)
    torch.testing.assert_close(ours.timesteps, base.timesteps)
    y = x
    for t, u in zip(base.timesteps, ours.timesteps, strict=True):
        x = base.step(net(x, t).sample, t, x, return_dict=False)[0]
        y = ours.step(net(y, u).sample, u, y, return_dict=False)[0]
    assert off(y, x) < 5e-6


def test_sigmas_and_timesteps_of_the_caller():
    pipe, call = tiny.sd3()
    given = [1.0, 0.8, 0.5, 0.2]
    ours = FlowsolveScheduler.of(pipe.scheduler)  # auto, which has levels of its own
    x, _ = run(pipe, call, 4, sigmas=given)
    euler = FlowsolveScheduler.of(pipe.scheduler, "ddim")
    assert off(run(pipe, call, 4, euler, sigmas=given)[0], x) < 5e-6
    _, asked = run(pipe, call, 4, ours, sigmas=given)
    assert asked == 4
    torch.testing.assert_close(ours.sigmas[:-1], euler.sigmas[:-1])
    pipe, call = tiny.sd()
    ours = FlowsolveScheduler.of(pipe.scheduler, "unipc3")
    run(pipe, call, 50, ours, timesteps=[999, 700, 500, 100])
    assert ours.timesteps.tolist() == [999, 700, 500, 100]


def test_sigmas_that_the_solver_cannot_spend():
    ours = FlowsolveScheduler.of(diffusers.FlowMatchEulerDiscreteScheduler(), "heun")
    with pytest.raises(ValueError, match="sigmas has 4 levels"):
        ours.set_timesteps(sigmas=[1.0, 0.8, 0.5, 0.2])
    ours.set_timesteps(sigmas=[1.0, 0.75, 0.5, 0.25])  # a pipeline's own default is made anew
    assert ours.num_inference_steps == 4


# The budget


def counted(family, solver, n):
    pipe, call = tiny.FAMILIES[family]()
    x, asked = run(pipe, call, n, FlowsolveScheduler.of(pipe.scheduler, solver))
    return asked, x


PAIRS = [(family, solver) for family in ("sd", "flux") for solver in FIXED]


@pytest.mark.sweep(keep=16)
@pytest.mark.parametrize(("family", "solver"), PAIRS)
def test_as_many_evaluations_as_steps(family, solver):
    for n in (1, 2, 5, 12):
        asked, x = counted(family, solver, n)
        assert asked == n
        assert x.isfinite().all()


@pytest.mark.parametrize("family", [f for f in tiny.FAMILIES if f not in ("sd", "flux")])
def test_auto_in_every_family(family):
    asked, x = counted(family, "auto", 5)
    assert asked == 5 * (2 if family == "wan" else 1)
    assert x.isfinite().all()


# Image to image, inpainting


@pytest.mark.sweep(keep=10)
@pytest.mark.parametrize("strength", [0.1, 0.3, 0.5, 0.6, 1.0])
@pytest.mark.parametrize(
    "solver", ["ddim", "dpmpp2m", "unipc2", "heun", "rk4", "res3s", "edm", "auto", "restart"]
)
def test_image_to_image_begins_in_the_middle(solver, strength):
    pipe, call = tiny.sd_img2img()
    base = {
        "dpmpp2m": diffusers.DPMSolverMultistepScheduler(**tiny.SD_TABLE),
        "unipc2": diffusers.UniPCMultistepScheduler(**tiny.SD_TABLE),
    }.get(solver, diffusers.EulerDiscreteScheduler(**tiny.SD_TABLE, timestep_spacing="trailing"))
    y, asked = run(pipe, call, 10, FlowsolveScheduler.of(base, solver), strength=strength)
    assert asked == int(10 * strength)
    assert y.isfinite().all()
    if solver in ("ddim", "dpmpp2m", "unipc2"):
        assert off(y, run(pipe, call, 10, base, strength=strength)[0]) < 5e-6


@pytest.mark.parametrize("solver", ["dpmpp2m", "unipc2", "ddim", "heun"])
def test_inpainting_keeps_what_is_known(solver):
    pipe, call = tiny.sd_inpaint()
    kind = {"dpmpp2m": "DPMSolverMultistep", "unipc2": "UniPCMultistep"}.get(solver, "DDIM")
    options = {} if kind != "DDIM" else {"clip_sample": False}
    base = getattr(diffusers, f"{kind}Scheduler")(**tiny.SD_TABLE, **options)
    for strength in (0.7, 1.0):
        y, _ = run(pipe, call, 8, FlowsolveScheduler.of(base, solver), strength=strength)
        z, _ = run(pipe, call, 8, base, strength=strength)
        # The last blend is with the image itself: what both keep is the same to the bit.
        mask = (call["mask_image"] > 0.5).float()
        kept = (torch.nn.functional.interpolate(mask, (8, 8)) < 0.5).expand_as(y)
        assert torch.equal(y[kept], z[kept])
        if solver != "heun":
            assert off(y, z) < 5e-6


def test_a_pipeline_that_stops_half_way():
    pipe, call = tiny.sdxl()
    base = diffusers.DPMSolverMultistepScheduler(**tiny.SD_TABLE)
    x, asked = run(pipe, call, 10, FlowsolveScheduler.of(base, "dpmpp2m"), denoising_end=0.6)
    theirs, calls = run(pipe, call, 10, base, denoising_end=0.6)
    assert asked == calls < 10
    assert off(x, theirs) < 5e-6


def test_callbacks_change_latents():
    pipe, call = tiny.sd()
    base = diffusers.DPMSolverMultistepScheduler(**tiny.SD_TABLE)

    def anew(pipe, k, t, given):
        return {"latents": given["latents"] * 1.1} if k == 3 else given

    def in_place(pipe, k, t, given):
        if k == 3:
            given["latents"].mul_(1.1)
        return given

    ours = FlowsolveScheduler.of(base, "dpmpp2m")
    results = [run(pipe, call, 8, ours, callback_on_step_end=c)[0] for c in (anew, in_place)]
    theirs, _ = run(pipe, call, 8, base, callback_on_step_end=anew)
    assert torch.equal(*results)
    assert off(results[0], theirs) < 5e-6
    assert off(results[0], run(pipe, call, 8, ours)[0]) > 1e-2


# Half precision


def test_a_half_precision_pipeline_keeps_its_state_in_float32():
    pipe, call = tiny.sd()
    net = pipe.unet
    base = diffusers.DDIMScheduler(**tiny.SD_TABLE, clip_sample=False, timestep_spacing="trailing")
    half = copy.deepcopy(net).to(torch.bfloat16)

    class Narrow(torch.nn.Module):
        """The network in half precision, in a pipeline that keeps its latents in float32."""

        def __init__(self):
            super().__init__()
            self.config, self.dtype = net.config, torch.float32

        def forward(self, x, t, encoder_hidden_states, **rest):
            del rest
            words = encoder_hidden_states.to(torch.bfloat16)
            return (half(x.to(torch.bfloat16), t, words).sample.float(),)

    start = tiny.random(2, 4, 8, 8, seed=3)
    words = call["prompt_embeds"]

    def loop(scheduler, dtype, network):
        scheduler.set_timesteps(50)
        x = start.to(dtype)
        for t in scheduler.timesteps:
            x = scheduler.step(network(x, t, words.to(dtype))[0].to(dtype), t, x).prev_sample
        return x.float()

    exact = loop(FlowsolveScheduler.of(base, "ddim"), torch.float32, Narrow())

    def asked(x, t, w):
        return half(x, t, w, return_dict=False)

    ours = loop(FlowsolveScheduler.of(base, "ddim"), torch.bfloat16, asked)
    theirs = loop(base, torch.bfloat16, asked)
    assert (ours - exact).abs().max() < 0.25 * (theirs - exact).abs().max()


# Noise


def test_generators_and_lists_of_them():
    net = tiny.unet2d()
    ours = FlowsolveScheduler.of(diffusers.DDPMScheduler(clip_sample=False), "ddpm")

    def draw(x, generators):
        ours.set_timesteps(6)
        for t in ours.timesteps:
            x = ours.step(net(x, t).sample, t, x, generator=generators).prev_sample
        return x

    x = tiny.random(3, 3, 8, 8)
    seeds = [[torch.Generator().manual_seed(s) for s in (5, 6, 7)] for _ in range(2)]
    batch = draw(x, seeds[0])
    alone = draw(x[1:2], [seeds[1][1]])
    assert (batch[1:2] - alone).abs().max() < 2e-5 * batch.abs().max()
    again = [torch.Generator().manual_seed(0) for _ in range(2)]
    assert torch.equal(draw(x, again[0]), draw(x, again[1]))
    assert not torch.equal(draw(x, torch.Generator().manual_seed(1)), draw(x, again[0]))


def test_a_learned_variance_is_used_by_ancestral_steps_and_said_to_be_left_out():
    base = diffusers.DDPMScheduler(clip_sample=False, variance_type="learned_range")
    x, out = tiny.random(2, 3, 8, 8), tiny.random(2, 6, 8, 8, seed=2)

    def end(scheduler, answer):
        scheduler.set_timesteps(4)
        y = x
        for t in scheduler.timesteps:
            y = scheduler.step(answer, t, y, generator=torch.Generator().manual_seed(0))[0]
        return y

    ours = FlowsolveScheduler.of(base, "ddpm", "base")
    assert off(end(ours, out), end(base, out)) < 1e-4  # their variances are float32's
    with pytest.warns(UserWarning, match="learned variance is left out"):
        end(FlowsolveScheduler.of(base, "dpmpp2m_sde", "base"), out)


# Threads


def test_a_copy_for_each_thread():
    net, x = tiny.unet2d(), tiny.random(1, 3, 8, 8)
    ours = FlowsolveScheduler.of(diffusers.DDIMScheduler(clip_sample=False), "unipc3")

    def draw(scheduler, results):
        scheduler.set_timesteps(6)
        y = x
        for t in scheduler.timesteps:
            y = scheduler.step(net(y, t).sample, t, y).prev_sample
        results.append(y)

    results: list[torch.Tensor] = []
    draw(ours, results)
    threads = [threading.Thread(target=draw, args=(copy.copy(ours), results)) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(results) == 5
    assert all(torch.equal(y, results[0]) for y in results)


def test_two_threads_with_one_scheduler_are_told():
    ours = FlowsolveScheduler.of(diffusers.DDIMScheduler(), "ddim")
    ours.set_timesteps(3)
    x = torch.zeros(1, 3, 8, 8)
    ours.step(x, ours.timesteps[0], x)
    errors = []

    def other():
        try:
            ours.step(x, ours.timesteps[1], x)
        except ValueError as error:
            errors.append(str(error))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert "another thread" in errors[0] and "copy.copy(scheduler)" in errors[0]


# auto and the shift of a flow


def test_auto_moves_with_the_shift():
    plans = []
    for shift in (1.0, 6.0):
        base = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
        ours = FlowsolveScheduler.of(base)
        ours.set_timesteps(6)
        plans.append(ours.plan)
        process = flowsolve.RectifiedFlow(shift=shift)
        assert ours.plan == flowsolve.plan("auto", process, nfe=6)
    inner = [[level.sigma for level in plan.levels[1:-1]] for plan in plans]
    # The same levels about another center: σ̄ = shift in place of 0.28 d^¼, d that of large latents.
    assert inner[1] == pytest.approx([6.0 / (0.28 * 8) * s for s in inner[0]], rel=1e-12)


def test_auto_goes_by_a_shape_and_the_prediction():
    base = diffusers.DDIMScheduler()
    ours = FlowsolveScheduler.of(base, shape=(1, 28, 28))
    model = flowsolve.Denoiser(lambda x, t: x, ours.process, "eps", (1, 28, 28))
    for scheduler in (ours, FlowsolveScheduler.from_config(ours.config)):
        scheduler.set_timesteps(6)
        assert scheduler.plan == flowsolve.plan("auto", model, nfe=6)
    with pytest.raises(ValueError, match="shape"):
        FlowsolveScheduler.of(base, shape=(0, 2))


def test_a_plan_in_a_pipeline(tmp_path):
    pipe, call = tiny.sd3()
    plan = flowsolve.plan("unipc3", flowsolve.RectifiedFlow(), nfe=6, grid="linspace")
    ours = FlowsolveScheduler.of(pipe.scheduler, plan=plan)
    x, asked = run(pipe, call, 6, ours)
    assert asked == 6
    ours.save_pretrained(tmp_path)
    again = FlowsolveScheduler.from_pretrained(tmp_path)
    assert torch.equal(run(pipe, call, 6, again)[0], x)
    with pytest.raises(ValueError, match="a plan of 6 evaluations"):
        ours.set_timesteps(7)
    vp = flowsolve.plan("ddim", flowsolve.VP(), nfe=3)
    with pytest.raises(ValueError, match="made for another process"):
        FlowsolveScheduler.of(pipe.scheduler, plan=vp)
