"""Pipelines and networks of diffusers as denoisers, and saved ones loaded."""

from __future__ import annotations

import json
import math
import threading

import peers
import pytest
import tiny
import torch

import flowsolve
from flowsolve.cli import main

diffusers = peers.installed("diffusers")
integration = peers.installed("flowsolve.integrations.diffusers")
FlowsolveScheduler, Levels = integration.FlowsolveScheduler, integration.Levels
denoiser, wrap = integration.denoiser, integration.wrap

pytestmark = peers.MARKS


def running():
    """Whether a pipeline's loop is."""
    return any(thread.name.startswith("flowsolve") for thread in threading.enumerate())


def seeded():
    return torch.Generator().manual_seed(0)


def by_scheduler(pipe, call, solver, n):
    pipe.set_progress_bar_config(disable=True)
    base = pipe.scheduler
    pipe.scheduler = FlowsolveScheduler.of(base, solver)
    try:
        return pipe(**call, generator=seeded(), num_inference_steps=n, output_type="latent")[0]
    finally:
        pipe.scheduler = base


def test_networks_of_diffusers_import():
    # They do not where there is a torchvision made for another torch.
    assert diffusers.UNet2DModel is not None


# A pipeline


@pytest.mark.parametrize("family", [f for f in tiny.FAMILIES if f not in ("dit", "ddpm")])
def test_a_pipeline_is_a_denoiser(family):
    pipe, call = tiny.FAMILIES[family]()
    base = pipe.scheduler
    with denoiser(pipe, **call, generator=seeded()) as model:
        ours = flowsolve.solve(model, solver="unipc2", grid=model.levels, nfe=6, start=model.start)
        auto = flowsolve.sample(model, nfe=5, seed=0)
    assert pipe.scheduler is base and not running()
    assert ours.nfe == 6 and auto.shape == ours.x.shape
    x = by_scheduler(pipe, call, "unipc2", 6)
    if family == "sdxl":  # whose latents begin with √(1 + σ²) A, which is 1 to rounding
        torch.testing.assert_close(ours.x, x, rtol=0, atol=5e-6 * x.abs().max())
    else:
        assert torch.equal(ours.x, x)


@pytest.mark.parametrize("family", ["dit", "ddpm"])
def test_pipelines_that_take_no_latents(family):
    pipe, call = tiny.FAMILIES[family]()
    with denoiser(pipe, **call) as model:
        x = flowsolve.sample(model, nfe=4, seed=0)
    assert x.shape == model.start.shape


def test_evaluations_are_the_networks():
    pipe, call = tiny.sd()
    asked = []
    hook = pipe.unet.register_forward_hook(lambda *_: asked.append(1))
    with denoiser(pipe, **call) as model:
        assert len(asked) == 1  # to find out what its latents are
        flowsolve.sample(model, nfe=7, solver="heun", seed=0)
        assert len(asked) == 8
    hook.remove()


def test_gradients_are_refused_and_not_wrong():
    pipe, call = tiny.sd()
    with denoiser(pipe, **call) as model:
        start = model.start.clone().requires_grad_()
        how = {"solver": "ddim", "nfe": 2, "start": start}
        assert flowsolve.sample(model, **how).isfinite().all()
        with pytest.raises(ValueError, match=r"expected the network itself, wrap\(net, scheduler"):
            flowsolve.sample(model, differentiable=True, **how)


def test_what_works_on_denoisers_works_on_pipelines():
    pipe, call = tiny.sd3()
    with denoiser(pipe, **call) as model:
        table = flowsolve.compare(model, nfe=(5, 8), solvers=("auto", "ddim"))
        x = flowsolve.sample(model, nfe=20, seed=0)
        z = flowsolve.encode(model, x, solver="unipc3", nfe=20)
        dopri5 = flowsolve.solve(model, solver="dopri5", start=model.start, rtol=1e-3, atol=1e-3)
    assert table.finished == 4 and len(table.reference) == 2
    assert z.shape == x.shape and dopri5.x.isfinite().all()


def test_a_half_precision_pipeline():
    pipe, call = tiny.sd()
    half = type(pipe)(**pipe.components, requires_safety_checker=False).to(torch.bfloat16)
    try:
        given = {
            k: v.to(torch.bfloat16) if isinstance(v, torch.Tensor) else v for k, v in call.items()
        }
        with denoiser(half, **given) as model:
            assert model.net_dtype == torch.bfloat16
            assert flowsolve.sample(model, nfe=4, seed=0).dtype == torch.float32
    finally:
        pipe.to(torch.float32)


def test_errors_of_the_pipeline_reach_the_caller():
    pipe, call = tiny.sd()
    base = pipe.scheduler
    with pytest.raises(ValueError, match="divisible by 8"), denoiser(pipe, **call | {"height": 17}):
        pass
    assert pipe.scheduler is base and not running()

    calls = []

    def failing(*_):
        calls.append(1)
        if len(calls) == 4:
            raise KeyError("out of luck")

    hook = pipe.unet.register_forward_hook(failing)
    with pytest.raises(KeyError, match="out of luck"), denoiser(pipe, **call) as model:
        try:
            flowsolve.sample(model, nfe=5, seed=0)
        finally:
            hook.remove()
            again = flowsolve.sample(model, nfe=5, seed=0)  # the loop begins anew
            assert again.isfinite().all()
    assert pipe.scheduler is base and not running()


def test_what_a_pipeline_cannot_be_asked():
    pipe, call = tiny.sd()
    with denoiser(pipe, **call) as model:
        with pytest.raises(ValueError, match=r"row: 2 rows for the samples 0 to 3"):
            flowsolve.sample(model, n=4, nfe=2)
        with pytest.raises(ValueError, match=r"called for 2 samples; expected n=2"):
            flowsolve.sample(model, n=2, batch_size=1, nfe=2)
        with pytest.raises(ValueError, match=r"one time for its whole batch"):
            flowsolve.sample(model, solver="adaptive")
    with (
        pytest.raises(ValueError, match="num_inference_steps=3"),
        denoiser(pipe, **call, num_inference_steps=3),
    ):
        pass
    with pytest.raises(TypeError, match="expected a pipeline"), denoiser(pipe.unet):
        pass


# A network


def test_a_bare_network_with_its_scheduler():
    net = tiny.unet2d()
    scheduler = diffusers.DDIMScheduler(clip_sample=False)
    model = wrap(net, scheduler)
    assert model.shape == (3, 8, 8)
    x = tiny.random(2, 3, 8, 8)
    ours = flowsolve.solve(model, solver="ddim", grid=Levels(scheduler), nfe=10, start=x).x
    scheduler.set_timesteps(10)
    for t in scheduler.timesteps:
        x = scheduler.step(net(x, t).sample, t, x).prev_sample
    torch.testing.assert_close(ours, x, rtol=0, atol=5e-6 * x.abs().max())


def test_twice_the_channels_labels_and_signs():
    pipe, _ = tiny.dit()
    model = wrap(pipe.transformer, pipe.scheduler, class_labels=torch.tensor([3, 7]))
    x = flowsolve.sample(model, nfe=4, seed=0)  # as many as labels
    assert x.shape == (2, 4, 8, 8)
    one = flowsolve.sample(model.given(class_labels=7), n=1, first=1, nfe=4, seed=0)
    torch.testing.assert_close(one[0], x[1], rtol=0, atol=1e-5 * x.abs().max())
    net = tiny.unet2d()
    turned = wrap(net, diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True))
    x, t = tiny.random(1, 3, 8, 8), 0.25
    said = turned(x, t)
    out = net(x, torch.tensor(750.0)).sample
    torch.testing.assert_close(said.eps - said.x0, -out)


def test_the_estimates_of_edms_networks():
    net = tiny.unet2d()
    for kind in ("epsilon", "v_prediction"):
        scheduler = diffusers.EDMEulerScheduler(prediction_type=kind)
        model = wrap(net, scheduler)
        x, sigma = 5.0 * tiny.random(2, 3, 8, 8), 3.0
        scheduler.set_timesteps(3)
        level = model.process.level(sigma)
        c_in = 1 / (sigma**2 + 0.25) ** 0.5
        out = net(c_in * x, torch.tensor(0.25 * math.log(sigma))).sample
        theirs = scheduler.precondition_outputs(x, out, torch.tensor(sigma))
        torch.testing.assert_close(model(x, level).x0, theirs, rtol=0, atol=1e-5)


# Saved ones


@pytest.fixture
def folder(tmp_path):
    pipe, _ = tiny.ddpm()
    pipe.save_pretrained(tmp_path)
    return tmp_path


def test_a_saved_pipeline_is_ready_to_sample(folder):
    model = flowsolve.load(folder)
    assert model.shape == (3, 8, 8) and not model.net.training
    pipe, _ = tiny.ddpm()
    x = flowsolve.sample(model, nfe=6, n=2, seed=0)
    assert torch.equal(x, flowsolve.sample(flowsolve.load(pipe), nfe=6, n=2, seed=0))
    assert flowsolve.load(folder, dtype=torch.bfloat16).net_dtype == torch.bfloat16


def test_networks_with_classes(tmp_path):
    net = tiny.unet2d(num_class_embeds=5)
    diffusers.DDPMPipeline(net, diffusers.DDPMScheduler()).save_pretrained(tmp_path)
    model = flowsolve.load(tmp_path, class_labels=2)
    x = flowsolve.sample(model, nfe=3, n=2, seed=0)
    other = flowsolve.sample(model.given(class_labels=torch.tensor([2, 4])), nfe=3, n=2, seed=0)
    torch.testing.assert_close(x[0], other[0], rtol=0, atol=1e-5)
    assert not torch.equal(x[1], other[1])
    pipe, _ = tiny.dit()
    assert flowsolve.sample(flowsolve.load(pipe), nfe=2, seed=0).shape == (1, 4, 8, 8)


def test_no_code_and_no_pickles(folder):
    index = folder / "model_index.json"
    plain = json.loads(index.read_text())
    for changed, what in (
        ({"scheduler": ["my_scheduler", "Mine"]}, "my_scheduler"),
        ({"_class_name": ["pipeline", "Mine"]}, "a pipeline of its own"),
    ):
        index.write_text(json.dumps({**plain, **changed}))
        with pytest.raises(ValueError, match=rf"code of its own \({what}\), which is not run"):
            flowsolve.load(folder)
    index.write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        flowsolve.load(folder)
    index.write_text(json.dumps(plain))
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(tiny.unet2d().state_dict(), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(ValueError, match="only safetensors are read"):
        flowsolve.load(folder)


def test_what_is_no_model(folder):
    with pytest.raises(FileNotFoundError, match=r"no model_index\.json"):
        flowsolve.load(folder / "unet")
    with pytest.raises(TypeError, match="expected a folder, a name or a pipeline"):
        flowsolve.load(3)
    (pipe, _), net = tiny.sd(), tiny.unet2d()
    encoded = type(pipe)(
        **{**pipe.components, "text_encoder": torch.nn.Linear(1, 1)}, requires_safety_checker=False
    )
    with pytest.raises(ValueError, match=r"has a text_encoder.*denoiser"):
        flowsolve.load(encoded)
    with pytest.raises(ValueError, match="states no process"):
        flowsolve.load(diffusers.DDPMPipeline(net, diffusers.LCMScheduler()))


# The command line


def test_commands_on_saved_pipelines(folder, tmp_path, capsys):
    picture = tmp_path / "out.png"
    how = ["--solver", "auto", "--nfe", "4", "--n", "2"]
    assert main(["sample", "--model", str(folder), *how, "-o", str(picture)]) == 0
    assert picture.exists() and "4 evaluations, 2 samples" in capsys.readouterr().out
    compared = ["compare", "--pipeline", str(folder), "--nfe", "3,4", "--solvers", "auto,ddim"]
    assert main([*compared, "--n", "2", "-o", str(tmp_path / "compare.png")]) == 0
    assert "nfe=4" in capsys.readouterr().out
    for wrong, said in (
        (["sample", "--model", str(folder / "unet")], "no model_index.json"),
        (["compare", "--pipeline", str(folder / "nowhere")], "could not be had from the hub"),
        (["compare", "--pipeline", str(folder), "--label", "3"], "--label cannot be combined"),
        (["compare", "--prompt", "fox"], "expected --pipeline"),
    ):
        assert main(wrong) == 2
        assert said in capsys.readouterr().err


def test_a_prompt_on_the_command_line(tmp_path, capsys):
    (tmp_path / "words").mkdir()
    pipe = tiny.sd_with_words(tmp_path / "words")
    pipe.save_pretrained(tmp_path / "pipe")
    assert main(
        ["compare", "--pipeline", str(tmp_path / "pipe"), "--prompt", "a red fox",
         "--nfe", "3", "--n", "2", "--solvers", "auto,ddim", "--guidance", "3"]
    ) == 0  # fmt: skip
    out = capsys.readouterr().out
    assert "auto" in out and "2 samples" in out
