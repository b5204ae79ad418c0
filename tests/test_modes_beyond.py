"""None of torch's global modes reaches what the ODE is good for beside samples."""

import pytest
import torch
from problems import F64, elementwise
from test_modes import MODES

import flowsolve
from flowsolve import Parallel

PROCESS = flowsolve.VP.cosine()
X = torch.linspace(-1.0, 1.0, 12, dtype=F64).view(4, 3).sin()


def model_of(dtype):
    return flowsolve.Denoiser(elementwise, PROCESS, "v", (3,), dtype=dtype)


def conditional(dtype):
    def net(x, t, y):
        return elementwise(x, t) + y.view(-1, 1).to(x)

    model = flowsolve.Denoiser(net, PROCESS, "v", (3,), dtype=dtype)
    y = torch.linspace(0.0, 1.0, 4, dtype=F64, device="cpu")
    return model.given(y=y, per_sample=["y"])


def scaled(dtype, **how):
    scales = torch.linspace(1.0, 2.0, 4, dtype=F64, device="cpu")
    null = torch.zeros(1, dtype=F64, device="cpu")
    return flowsolve.guided(conditional(dtype), {"y": null}, scale=scales, **how)


def exactly(dtype, x):
    latent = flowsolve.encode(model_of(dtype), x, exact=True, nfe=5)
    return torch.cat([latent.position, latent.decode(model_of(dtype)).x.double()])


def nats(dtype, x, **how):
    return flowsolve.log_likelihood(model_of(dtype), x, **how).nats


def classifier(x, level):
    return -x.square().sum(1)


#: Each a tensor of a dtype and of data.
CALLS = {
    "reconstruct": lambda d, x: flowsolve.reconstruct(model_of(d), x, nfe=5).x,
    "interpolate": lambda d, x: flowsolve.interpolate(model_of(d), x, x.flip(0), 3, nfe=5),
    "slerp": lambda d, x: flowsolve.slerp(x, x.flip(0), 0.3),
    "exact": exactly,
    "likelihood": lambda d, x: nats(d, x, nfe=12),
    "adaptive likelihood": lambda d, x: nats(
        d, x, solver="adaptive", rtol=1e-2, atol=1e-2, divergence="hutchinson", seed=0
    ),
    "probes": lambda d, x: nats(d, x, solver="auto", nfe=6, divergence="hutchinson", seed=0),
    "guided": lambda d, x: flowsolve.sample(scaled(d, interval=(0.1, 9.0)), nfe=4, seed=0),
    "rescaled": lambda d, x: flowsolve.sample(scaled(d, rescale=0.5), nfe=4, seed=0),
    "projected": lambda d, x: flowsolve.sample(scaled(d, project=(0.5, 0.1)), nfe=4, seed=0),
    "guided, adaptive": lambda d, x: flowsolve.sample(
        scaled(d), solver="adaptive", rtol=1e-2, atol=1e-2, seed=0
    ),
    "classifier": lambda d, x: flowsolve.sample(
        flowsolve.guided(model_of(d), classifier=classifier, scale=0.5), nfe=4, n=2, seed=0
    ),
    "parallel": lambda d, x: flowsolve.sample(
        conditional(d), solver="ddpm", nfe=8, seed=0, parallel=Parallel(tol=1e-4)
    ),
}


@pytest.mark.sweep(keep=0.15)
@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=["f32", "f64"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CALLS)
def test_it_is_the_same_in_every_mode(name, mode, dtype):
    x = X.to(dtype)
    want = CALLS[name](dtype, x)
    flowsolve.clear_cache()
    with MODES[mode]():
        inside = CALLS[name](dtype, x)
    after = CALLS[name](dtype, x)
    assert inside.device.type == "cpu" and inside.dtype == want.dtype
    assert torch.equal(inside, want) and torch.equal(after, want)
