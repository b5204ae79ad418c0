"""The node for ComfyUI, against a small stand-in of its sampler interface. ComfyUI itself is not
run."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

import flowsolve
from flowsolve import exact

PLACE = Path(__file__).parents[1] / "integrations" / "comfyui" / "__init__.py"
SIGMAS = torch.tensor([14.6, 5.0, 1.5, 0.4, 0.1, 0.0])


class EPS: ...


class CONST: ...


class KSAMPLER:
    """As comfy.samplers has it: scales the noise, calls the function, passes what it is given."""

    def __init__(self, sampler_function, extra_options=None, inpaint_options=None):
        self.sampler_function, self.extra_options = sampler_function, extra_options or {}
        self.inpaint_options = inpaint_options or {}

    def sample(self, model, sigmas, extra_args, callback, noise, latent, denoise_mask=None):
        extra_args["denoise_mask"] = denoise_mask
        kind = type(model.inner_model.inner_model.model_sampling)
        s = sigmas[0]
        x = s * noise + (1 - s) * latent if issubclass(kind, CONST) else s * noise + latent
        total = len(sigmas) - 1

        def told(d):
            callback(d["i"], d["denoised"], d["x"], total)

        return self.sampler_function(
            model, x, sigmas, extra_args=extra_args, callback=told, disable=True,
            **self.extra_options,
        )  # fmt: skip


class Guider:
    """What stands between a sampler and a model, called as (x, sigma, denoise_mask, ...)."""

    def __init__(self, kind, process):
        sampling = type("ModelSampling", (kind,), {})()
        self.inner_model = SimpleNamespace(inner_model=SimpleNamespace(model_sampling=sampling))
        self.law, self.process = exact.Gaussian(process, [0.5] * 4, [0.2] * 4), process

    def __call__(self, x, sigma, denoise_mask=None, model_options=None, seed=None):
        level = self.process.level(min(float(sigma[0]), self.process.t_max))
        return self.law(x.double(), level).x0.to(x.dtype)


@pytest.fixture
def node(monkeypatch):
    comfy, samplers = ModuleType("comfy"), ModuleType("comfy.samplers")
    samplers.KSAMPLER = KSAMPLER
    comfy.samplers = samplers
    monkeypatch.setitem(sys.modules, "comfy", comfy)
    monkeypatch.setitem(sys.modules, "comfy.samplers", samplers)
    spec = importlib.util.spec_from_file_location("flowsolve_node", PLACE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(node, model, sigmas, solver="auto"):
    cls = node.NODE_CLASS_MAPPINGS["FlowsolveSampler"]
    names = cls.INPUT_TYPES()["required"]["solver"][0]
    assert solver in names and node.NODE_DISPLAY_NAME_MAPPINGS.keys() == {"FlowsolveSampler"}
    (sampler,) = getattr(cls(), cls.FUNCTION)(solver=solver)
    seen = []
    noise = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    x = sampler.sample(
        model, sigmas, {"model_options": {}, "seed": 5}, lambda *a: seen.append(a),
        noise, torch.zeros(3, 4),
    )  # fmt: skip
    return noise, x, seen


def test_the_node_reads_what_kind_of_model_it_is(node):
    edm, flow = flowsolve.EDM(0.05, 14.6), flowsolve.RectifiedFlow()
    noise, x, seen = run(node, Guider(EPS, edm), SIGMAS, "dpmpp2m")
    law = exact.Gaussian(edm, [0.5] * 4, [0.2] * 4)
    end = flowsolve.solve(
        law, solver="dpmpp2m", grid=SIGMAS.tolist(), start=SIGMAS[0].double() * noise.double()
    ).x
    torch.testing.assert_close(x.double(), end, rtol=0, atol=3e-6)
    assert [s[0] for s in seen] == [0, 1, 2, 3, 4] and all(s[3] == 5 for s in seen)
    sigmas = torch.tensor([1.0, 0.8, 0.5, 0.2, 0.0])
    noise, x, _ = run(node, Guider(CONST, flow), sigmas, "dpmpp2m")
    law = exact.Gaussian(flow, [0.5] * 4, [0.2] * 4)
    end = flowsolve.solve(law, solver="dpmpp2m", grid=sigmas.tolist(), start=noise.double()).x
    torch.testing.assert_close(x.double(), end, rtol=0, atol=3e-6)


def test_a_model_that_does_not_say(node):
    class Other: ...

    with pytest.raises(ValueError, match="cannot tell whether this model is a flow"):
        run(node, Guider(Other, flowsolve.EDM()), SIGMAS)
    with pytest.raises(ValueError, match="cannot tell"):
        node.is_flow(object())
