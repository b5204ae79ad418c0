"""What diffusers asks of every scheduler, for three solvers: saving and loading, shapes, dtypes,
devices, tables of one's own, determinism. And what is refused, with the way out."""

from __future__ import annotations

import copy
import json
import math
import pickle
import warnings

import peers
import pytest
import tiny
import torch

import flowsolve

diffusers = peers.installed("diffusers")
integration = peers.installed("flowsolve.integrations.diffusers")
FlowsolveScheduler, read = integration.FlowsolveScheduler, integration.read

pytestmark = peers.MARKS
SOLVERS = ["unipc3", "heun", "dpmpp2m_sde"]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(params=SOLVERS)
def solver(request):
    return request.param


def made(solver, **base):
    return FlowsolveScheduler(solver=solver, base_class="DDIMScheduler", **base)


def dummy(x, t):
    """A network of the scheduler tests of diffusers: something of the state and the time."""
    return x * (t / (t + 1))


def loop(scheduler, n=10, x=None, seed=0, dtype=torch.float32, device="cpu", fresh=True):
    if fresh:
        scheduler.set_timesteps(n, device=device)
    x = tiny.random(4, 3, 8, 8).to(device, dtype) if x is None else x
    generator = torch.Generator().manual_seed(seed)
    for t in scheduler.timesteps:
        x = scheduler.step(dummy(x, t), t, x, generator=generator).prev_sample
    return x


@pytest.mark.parametrize("final", ["clean", "base"])
def test_saved_and_loaded(solver, final, tmp_path):
    scheduler = made(solver, beta_schedule="scaled_linear", beta_end=0.012, final=final)
    scheduler.save_pretrained(tmp_path)
    again = FlowsolveScheduler.from_pretrained(tmp_path)
    assert torch.equal(loop(scheduler), loop(again))
    known = set(scheduler.config) - {"_class_name", "_diffusers_version", "_use_default_values"}
    assert {k: scheduler.config[k] for k in known} == {k: again.config[k] for k in known}
    saved = json.loads((tmp_path / "scheduler_config.json").read_text())
    assert saved["_class_name"] == "FlowsolveScheduler"
    assert saved["solver"] == solver and saved["base_class"] == "DDIMScheduler"


def test_from_a_configuration(solver):
    scheduler = made(solver, num_train_timesteps=500)
    again = FlowsolveScheduler.from_config(scheduler.config)
    assert torch.equal(loop(scheduler), loop(again))
    # A keyword changes it, of the solver or of the scheduler whose place is taken.
    assert FlowsolveScheduler.from_config(scheduler.config, solver="ddim").config.solver == "ddim"
    longer = FlowsolveScheduler.from_config(scheduler.config, num_train_timesteps=900)
    assert longer.process.entries == 900
    assert FlowsolveScheduler.from_config(scheduler.config, return_unused_kwargs=True, nonsense=3)[
        1
    ] == {"nonsense": 3}
    # And back to where it came from.
    base = diffusers.DDIMScheduler.from_config(scheduler.config)
    assert base.config.num_train_timesteps == 500


def test_from_the_folder_of_another_scheduler(tmp_path, solver):
    base = diffusers.DPMSolverMultistepScheduler(**tiny.SD_TABLE, use_karras_sigmas=True)
    base.save_pretrained(tmp_path)
    loaded = FlowsolveScheduler.from_pretrained(tmp_path, solver=solver)
    assert torch.equal(loop(loaded), loop(FlowsolveScheduler.of(base, solver)))


def test_what_a_pipeline_changed_in_the_configuration_counts():
    base = diffusers.DDIMScheduler(**tiny.SD_TABLE, clip_sample=False)
    assert FlowsolveScheduler.of(base, "ddim").config.steps_offset == 0
    pipe, _ = tiny.sd()
    parts = {**pipe.components, "scheduler": base}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # which says so
        pipe = type(pipe)(**parts, requires_safety_checker=False)
    ours = FlowsolveScheduler.of(pipe.scheduler, "ddim")
    assert pipe.scheduler.config.steps_offset == 1  # which its constructor wrote into it
    ours.set_timesteps(10)
    assert ours.timesteps[0] == 901


def test_a_pipeline_saved_and_loaded(tmp_path, solver):
    pipe, _ = tiny.ddpm()
    pipe = type(pipe)(pipe.unet, FlowsolveScheduler.of(pipe.scheduler, solver))
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["scheduler"] == ["flowsolve.integrations.diffusers", "FlowsolveScheduler"]
    again = diffusers.DDPMPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)

    def draw(pipe):
        generator = torch.Generator().manual_seed(0)
        return pipe(2, generator, num_inference_steps=4, output_type="np")[0]

    assert (draw(pipe) == draw(again)).all()


def test_shapes_dtypes_and_forms_of_a_step(solver):
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        scheduler = made(solver)
        scheduler.set_timesteps(4)
        x = tiny.random(2, 3, 8, 8).to(dtype)
        t = scheduler.timesteps[0]
        out = scheduler.step(dummy(x, t), t, x)
        assert out.prev_sample.shape == out.pred_original_sample.shape == x.shape
        assert out.prev_sample.dtype == out.pred_original_sample.dtype == dtype
        scheduler.set_timesteps(4)
        (new,) = scheduler.step(dummy(x, t), t, x, return_dict=False)
        if solver != "dpmpp2m_sde":
            assert torch.equal(new, out.prev_sample)


@pytest.mark.parametrize("device", DEVICES)
def test_where_the_pipeline_is(device, solver):
    end = loop(made(solver), device=device)
    assert end.device.type == device
    # Noise is the CPU generator's wherever it goes.
    torch.testing.assert_close(end.cpu(), loop(made(solver)), rtol=0, atol=2e-5 * end.abs().max())


def test_pred_original_sample_is_the_estimate():
    scheduler = made("unipc3")
    scheduler.set_timesteps(6)
    x = tiny.random(2, 3, 8, 8)
    for t in scheduler.timesteps:
        out = scheduler.step(dummy(x, t), t, x)
        a = float(scheduler.alphas_cumprod[int(t)]) ** 0.5
        expected = ((x - math.sqrt(1 - a * a) * dummy(x, t)) / a).clamp(-1, 1)
        torch.testing.assert_close(out.pred_original_sample, expected, rtol=0, atol=2e-4)
        x = out.prev_sample


def test_betas_of_ones_own(solver):
    betas = torch.linspace(1e-4, 0.03, 300)
    scheduler = made(solver, trained_betas=betas.tolist(), num_train_timesteps=300)
    assert scheduler.process == flowsolve.VP.discrete(betas.tolist())
    assert loop(scheduler).isfinite().all()
    assert len(scheduler) == 300


def test_the_same_seed_the_same_samples(solver):
    scheduler = made(solver)
    assert torch.equal(loop(scheduler), loop(scheduler))
    assert torch.equal(loop(scheduler), loop(made(solver)))
    different = not torch.equal(loop(scheduler), loop(scheduler, seed=1))
    assert different == (solver == "dpmpp2m_sde")


def test_states_are_the_networks_input_but_for_edm(solver):
    x = tiny.random(2, 3, 8, 8)
    assert made(solver).scale_model_input(x, 10) is x
    base = diffusers.EDMEulerScheduler()
    ours = FlowsolveScheduler.of(base, "ddim")
    base.set_timesteps(5), ours.set_timesteps(5)
    for t in base.timesteps[:1]:
        torch.testing.assert_close(ours.scale_model_input(x, t), base.scale_model_input(x, t))
    assert ours.init_noise_sigma == pytest.approx(base.init_noise_sigma, rel=1e-12)


def test_noise_for_the_middle(solver):
    x0, noise = tiny.random(3, 3, 8, 8), tiny.random(3, 3, 8, 8, seed=2)
    base = diffusers.DDIMScheduler()
    ours = FlowsolveScheduler.of(base, solver)
    times = torch.tensor([0, 400, 999])
    expected = base.add_noise(x0, noise, times)
    torch.testing.assert_close(ours.add_noise(x0, noise, times), expected, rtol=0, atol=1e-5)
    ours.set_timesteps(7)  # the same between steps, and for times of the run
    torch.testing.assert_close(ours.add_noise(x0, noise, times), expected, rtol=0, atol=1e-5)
    flow = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    ours = FlowsolveScheduler.of(flow, "heun")
    flow.set_timesteps(8), ours.set_timesteps(16)
    t = ours.timesteps[4:5].repeat(3)
    expected = x0 + t[0] / 1000 * (noise - x0)
    torch.testing.assert_close(ours.scale_noise(x0, t, noise), expected, rtol=0, atol=1e-5)


def test_tables_are_those_of_float64():
    # Of float32 the first σ of the linear table is 8.3e-5 off.
    ours = FlowsolveScheduler.of(diffusers.DDIMScheduler())
    betas = flowsolve.tables.linear()
    assert ours.process == flowsolve.VP.discrete(betas)
    assert ours.process.level(0.0).sigma == pytest.approx(math.sqrt(1e-4 / (1 - 1e-4)), rel=1e-12)


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"])
def test_every_table_is_the_schedulers(schedule):
    base = diffusers.DDPMScheduler(beta_schedule=schedule)
    process = read(base).process
    for i in (0, 10, 500, 998):
        bar = process.level(float(i)).A.value ** 2
        assert bar == pytest.approx(float(base.alphas_cumprod[i]), rel=3e-4)


def test_cogvideox_has_its_table_too():
    base = diffusers.CogVideoXDDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, snr_shift_scale=3.0
    )
    process = read(base).process
    for i in (0, 500, 998):
        bar = process.level(float(i)).A.value ** 2
        assert bar == pytest.approx(float(base.alphas_cumprod[i]), rel=3e-4)


def test_schedulers_and_denoisers_can_be_copied_and_pickled(solver):
    bases = (
        diffusers.DDIMScheduler(clip_sample=False),
        diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        diffusers.EDMEulerScheduler(),
        diffusers.CosineDPMSolverMultistepScheduler(),
    )
    for base in bases:
        ours = FlowsolveScheduler.of(base, solver)
        end = loop(ours, 4)
        for again in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
            assert torch.equal(loop(again, 4), end)
        model = integration.wrap(tiny.unet2d(), base)
        again = pickle.loads(pickle.dumps(model))
        levels = model.process.level(0.3), again.process.level(0.3)
        assert model.label(levels[0]) == again.label(levels[1])


def test_times_there_and_back():
    for base in (
        diffusers.DDIMScheduler(),
        diffusers.FlowMatchEulerDiscreteScheduler(),
        diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
        diffusers.EDMEulerScheduler(),
        diffusers.CosineDPMSolverMultistepScheduler(),
    ):
        convention = read(base)
        process = convention.process
        for part in (0.1, 0.5, 0.99):
            level = process.level(process.t_min + part * (process.t_max - process.t_min))
            assert convention.clock.level(convention.clock.told(level)).t == pytest.approx(level.t)


def test_the_layout_is_kept(monkeypatch):
    scheduler = made("vpc3")
    scheduler.set_timesteps(12)
    plan = scheduler.plan
    again = FlowsolveScheduler.from_config(scheduler.config)
    again.set_timesteps(12)
    assert again.plan is plan


# Refused


def refused(match, kind=ValueError):
    return pytest.raises(kind, match=match)


def test_schedulers_without_a_process():
    for name in (
        "LCMScheduler",
        "TCDScheduler",
        "CMStochasticIterativeScheduler",
        "UnCLIPScheduler",
    ):
        with refused(r"states no process.*flowsolve.Denoiser"):
            FlowsolveScheduler.of(getattr(diffusers, name)())
    with refused("scheduler is a str; expected a scheduler of diffusers", TypeError):
        FlowsolveScheduler.of("DDIMScheduler")


def test_solvers_that_no_pipeline_can_run():
    with refused("has no plan.*denoiser"):
        FlowsolveScheduler.of(diffusers.DDIMScheduler(), "dopri5")
    with refused("Did you mean 'unipc3'"):
        FlowsolveScheduler.of(diffusers.DDIMScheduler(), "unipc33")
    with refused("option='etta'.*Did you mean 'eta'", TypeError):
        FlowsolveScheduler.of(diffusers.DDIMScheduler(), "ddim", etta=1.0)
    with refused("saved as text", TypeError):
        FlowsolveScheduler.of(diffusers.DDIMScheduler(), grid=flowsolve.grids.Karras())
    with refused("Did you mean 'DDIMScheduler'"):
        FlowsolveScheduler(base_class="DDIMSchedular")
    with refused("final='basis'"):
        FlowsolveScheduler.of(diffusers.DDIMScheduler(), final="basis")


def test_steps_that_cannot_be(solver):
    scheduler = made(solver)
    x = torch.zeros(1, 3, 8, 8)
    with refused(r"expected set_timesteps"):
        scheduler.step(x, 999, x)
    with refused("num_inference_steps=1001.*at most 1000"):
        scheduler.set_timesteps(1001)
    with refused("num_inference_steps=0"):
        scheduler.set_timesteps(0)
    scheduler.set_timesteps(5)
    with refused("timestep=777 is none of this run's.*nearest of which is"):
        scheduler.step(x, 777, x)
    scheduler.step(x, scheduler.timesteps[0], x)
    with refused("this run is at"):
        scheduler.step(x, scheduler.timesteps[0] + 3, x)
    loop(scheduler, x=x)
    with refused("at its end, after 10 evaluations"):
        scheduler.step(x, scheduler.timesteps[-1], x)


def test_a_sample_that_is_none():
    scheduler = made("unipc3")
    x = torch.zeros(1, 3, 8, 8)
    scheduler.set_timesteps(3)
    with refused("sample is a tensor of torch.int32", TypeError):
        scheduler.step(x, scheduler.timesteps[0], x.int())
    scheduler.set_timesteps(3)
    with refused("sample has NaN or Inf"):
        scheduler.step(x, scheduler.timesteps[0], x * math.nan)


def test_predictions_that_are_none():
    base = diffusers.DDIMScheduler(prediction_type="epsilon")
    base.register_to_config(prediction_type="noise")
    with refused("prediction_type='noise'.*'epsilon'"):
        read(base)
    zero = diffusers.DDIMScheduler(rescale_betas_zero_snr=True, timestep_spacing="trailing")
    with refused("eps.*pure noise|pure noise.*eps"):
        scheduler = FlowsolveScheduler.of(zero, "ddim")
        scheduler.set_timesteps(5)
        loop(scheduler, 5)


def test_a_configuration_without_a_class():
    with refused(r"does not name the class.*FlowsolveScheduler.of"):
        FlowsolveScheduler.from_config({"beta_schedule": "linear"})


def test_a_table_that_is_not_its_configurations():
    base = diffusers.DDIMScheduler()
    base.alphas_cumprod = base.alphas_cumprod * 0.9
    with refused("alphas_cumprod of DDIMScheduler"):
        read(base)


def test_numbers_that_are_none():
    scheduler = made("unipc3")
    with pytest.raises(flowsolve.NonFiniteError):
        scheduler.set_timesteps(4)
        x = tiny.random(1, 3, 8, 8)
        for t in scheduler.timesteps:
            x = scheduler.step(x * math.nan, t, x).prev_sample
