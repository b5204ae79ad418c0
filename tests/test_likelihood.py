"""ln p of data: closed forms, orders, random probes, gradients, what is refused."""

import math
from dataclasses import replace

import pytest
import torch
from problems import F64, MATRIX_PROCESSES, PROCESSES, elementwise, matrix_mixture

import flowsolve
from flowsolve import exact
from flowsolve.processes import FLOW_TIME

RF = flowsolve.RectifiedFlow()


def law(process, shape=(2,)):
    """Three narrow Gaussians, in samples of any shape."""
    size = torch.Size(shape).numel()
    means = torch.tensor([[-1.0, 0.0], [1.0, 0.5], [0.0, -1.0]], dtype=F64)
    means = means.repeat(1, -(-size // 2))[:, :size].view(3, *shape)
    return exact.Mixture(process, [0.3, 0.3, 0.4], means, [0.02, 0.05, 0.1])


def truth(model, x):
    """ln p of x with the noise of t_min."""
    quiet = model.process.level(model.process.t_min)
    a = quiet.A.value
    return model.log_density(a * x, quiet) + x[0].numel() * math.log(a)


def error(found, want):
    return float((found.nats - want).abs().max())


@pytest.mark.parametrize("process", ["rectified_flow", "cosine"])
def test_the_default_is_right_to_a_millionth(process):
    model = law(flowsolve.VP.cosine() if process == "cosine" else PROCESSES[process])
    x = model.draw(64)
    found = flowsolve.log_likelihood(model, x)
    assert found.nfe == 480 and found.stderr is None and found.nats.dtype is F64
    assert error(found, truth(model, x)) < 1e-6
    assert found.latent.shape == x.shape


@pytest.mark.sweep(keep=0.2)
@pytest.mark.parametrize("name", PROCESSES)
def test_with_the_law_of_the_noisy_end_every_process_is(name):
    """Without it VP, EDM, VE and tables, which keep some signal there, are off by 1e-3 and more."""
    model = law(PROCESSES[name])
    x = model.draw(32)
    noisy = model.process.start
    found = flowsolve.log_likelihood(model, x, prior=lambda z: model.log_density(z, noisy))
    assert error(found, truth(model, x)) < 1e-6
    plain = error(flowsolve.log_likelihood(model, x), truth(model, x))
    # The prior's mean is off by A, in its deviations, and there are some of those.
    assert plain < max(1e-6, 30 * noisy.A.value / model.process.prior(noisy).value)


@pytest.mark.sweep(keep=0.5)
@pytest.mark.parametrize("shape", [(1,), (1, 2, 2), (3, 2, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_states_of_any_shape(shape, dtype):
    model = law(RF, shape)
    x = model.draw(4).to(dtype)
    found = flowsolve.log_likelihood(model, x)
    assert error(found, truth(model, x.double())) < 1e-5  # the error grows with the size
    assert found.latent.dtype is dtype and found.latent.shape == x.shape
    size = x[0].numel()
    bits = -found.nats / size / math.log(2) - math.log2(0.125)
    torch.testing.assert_close(found.bits(0.125), bits, rtol=1e-14, atol=0)


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize(("solver", "order"), [("flow_heun", 2), ("vpc2", 3), ("rk4", 4)])
def test_the_integral_has_the_solver_s_order(solver, order):
    model = law(flowsolve.VP.cosine())
    x = model.draw(8)

    def found(k):
        u = [FLOW_TIME.of(model.process.level(t)) for t in (0.3, 0.8)]
        s = torch.linspace(u[1], u[0], k + 1, dtype=F64).tolist()
        times = [model.process.at("flow_time", v).t for v in s]
        return flowsolve.log_likelihood(model, x, solver=solver, grid=times).nats

    coarse, fine, finest = found(40), found(80), found(320)
    ratio = float((coarse - finest).norm() / (fine - finest).norm())
    assert abs(math.log2(ratio) - order) < 0.45


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("solver", ["scipy:DOP853", "dopri8", "adaptive", "auto"])
def test_every_kind_of_solver_works(solver):
    model = law(RF)
    x = model.draw(8)
    how = {"nfe": 320} if solver == "auto" else {"rtol": 1e-7, "atol": 1e-7}
    found = flowsolve.log_likelihood(model, x, solver=solver, **how)
    assert error(found, truth(model, x)) < (1e-4 if solver == "auto" else 5e-6)


def test_probes_are_unbiased_and_say_how_far_off_they_are():
    """A thousand repeats: copies of one point, each with probes of its own."""
    model = law(RF, (1, 2, 3))
    x = model.draw(1, seed=3)
    want = flowsolve.log_likelihood(model, x, solver="auto", nfe=30).nats
    found = flowsolve.log_likelihood(
        model,
        x.expand(1000, 1, 2, 3),
        solver="auto",
        nfe=30,
        divergence="hutchinson",
        n_probes=4,
        seed=0,
    )
    spread = float(found.nats.std())
    assert abs(float(found.nats.mean() - want)) < 3 * spread / math.sqrt(1000)
    assert found.stderr is not None
    said = float(found.stderr.square().mean().sqrt())
    assert abs(said / spread - 1) < 0.15


def test_fresh_probes_vary_less_than_one_for_the_run():
    model = law(RF, (8,))
    x = model.draw(1).expand(400, 8)
    levels = [RF.at("flow_time", u).t for u in torch.linspace(1.0, 1e-3, 41, dtype=F64).tolist()]
    how = {"divergence": "hutchinson", "n_probes": 2, "seed": 0}
    fresh = flowsolve.log_likelihood(model, x, solver="flow_heun", grid=levels, **how)
    fixed = flowsolve.log_likelihood(model, x, solver="dopri5", rtol=1e-4, atol=1e-4, **how)
    assert float(fresh.nats.std()) < 0.7 * float(fixed.nats.std())


@pytest.mark.parametrize("solver", [None, "auto", "adaptive"])
def test_a_sample_s_probes_are_its_own(solver):
    model = law(RF)
    x = model.draw(5)
    how = {"divergence": "hutchinson", "seed": 7, "solver": solver, "n_probes": 3}
    how |= {"nfe": 24} if solver != "adaptive" else {"rtol": 1e-3, "atol": 1e-3}
    whole = flowsolve.log_likelihood(model, x, **how)
    parts = [flowsolve.log_likelihood(model, x[i : i + 1], first=i, **how) for i in range(5)]
    for k in (0, 1):
        both = torch.cat([part[k] for part in parts])
        torch.testing.assert_close(whole[k], both, rtol=0, atol=1e-11)
    other = flowsolve.log_likelihood(model, x, **{**how, "seed": 8})
    assert not torch.allclose(other.nats, whole.nats)
    listed = flowsolve.log_likelihood(model, x[:2], **{**how, "seed": [7, 7]})
    torch.testing.assert_close(listed.nats[0], whole.nats[0], rtol=0, atol=1e-11)


class Net(torch.nn.Module):
    def __init__(self, dtype=F64):
        super().__init__()
        self.first, self.last = (
            torch.nn.Linear(3, 8, dtype=dtype),
            torch.nn.Linear(8, 2, dtype=dtype),
        )
        with torch.no_grad():
            for k, each in enumerate(self.parameters()):
                each.copy_(torch.sin(torch.arange(each.numel()) + k).view(each.shape) * 0.4)
        self.eval()

    def forward(self, x, t, y=None):
        h = self.first(torch.cat([x, t[:, None].to(x)], 1))
        return self.last(torch.tanh(h)) + (0.0 if y is None else y)


@pytest.mark.parametrize("divergence", ["exact", "hutchinson"])
def test_gradients_to_data_conditioning_and_weights(divergence):
    net = Net()
    x = torch.tensor([[0.3, -0.4], [1.0, 0.2]], dtype=F64, requires_grad=True)
    y = torch.tensor([[0.1, 0.0], [0.0, -0.2]], dtype=F64, requires_grad=True)
    how = {"nfe": 12, "divergence": divergence, "seed": 1, "differentiable": True}

    def nats(x, y, weight):
        def net_of(x, t, y):
            parameters = {**dict(net.named_parameters()), "first.weight": weight}
            return torch.func.functional_call(net, parameters, (x, t, y))

        model = flowsolve.Denoiser(net_of, RF, "velocity", (2,), dtype=F64)
        return flowsolve.log_likelihood(model.given(y=y, per_sample=["y"]), x, **how).nats

    weight = net.first.weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(nats, (x, y, weight))


def test_a_float32_network_and_one_that_works_in_place():
    model = flowsolve.Denoiser(Net(torch.float32), RF, "velocity", (2,))
    double = flowsolve.Denoiser(Net(), RF, "velocity", (2,))
    x = torch.tensor([[0.3, -0.4], [1.0, 0.2]])
    single = flowsolve.log_likelihood(model, x, nfe=48)
    torch.testing.assert_close(
        single.nats, flowsolve.log_likelihood(double, x, nfe=48).nats, rtol=0, atol=1e-5
    )

    def in_place(x, t):
        return x.mul_(0.5).tanh_()

    def plain(x, t):
        return (x * 0.5).tanh()

    a, b = (flowsolve.Denoiser(f, RF, "velocity", (2,), dtype=F64) for f in (in_place, plain))
    x = x.double()
    assert torch.equal(
        flowsolve.log_likelihood(a, x, nfe=24).nats, flowsolve.log_likelihood(b, x, nfe=24).nats
    )


def test_networks_that_cannot_be_vectorised_are_looped_over():
    class Own(torch.autograd.Function):
        """Without a rule for vmap."""

        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.tanh()

        @staticmethod
        def backward(ctx, *grad):
            (x,) = ctx.saved_tensors
            if float(grad[0].sum()) == math.inf:  # a question to the data
                raise AssertionError
            return grad[0] * (1 - x.tanh() ** 2)

    own = flowsolve.Denoiser(lambda x, t: Own.apply(0.5 * x), RF, "velocity", (3,), dtype=F64)
    plain = flowsolve.Denoiser(lambda x, t: (0.5 * x).tanh(), RF, "velocity", (3,), dtype=F64)
    x = torch.linspace(-1, 1, 6, dtype=F64).view(2, 3)
    torch.testing.assert_close(
        flowsolve.log_likelihood(own, x, nfe=12).nats,
        flowsolve.log_likelihood(plain, x, nfe=12).nats,
        rtol=0,
        atol=1e-12,
    )


def test_under_torch_s_modes_it_is_the_same():
    model = flowsolve.Denoiser(Net(), RF, "velocity", (2,))
    x = torch.tensor([[0.3, -0.4]], dtype=F64)
    want = flowsolve.log_likelihood(model, x, nfe=12).nats
    for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with mode():
            assert torch.equal(flowsolve.log_likelihood(model, x, nfe=12).nats, want)
    assert not want.requires_grad


def test_the_shipped_model_s_bits():
    data = pytest.importorskip("flowsolve.models.data")
    pytest.importorskip("sklearn")
    split = data.data()
    images = split.held_out[:2]
    images = images + torch.rand(images.shape, generator=torch.Generator().manual_seed(0)) / 8
    model = flowsolve.digits(split.held_out_labels[:2])
    found = flowsolve.log_likelihood(model, images, solver="auto", nfe=12)
    assert 1.5 < float(found.bits(1 / 8).mean()) < 3.5


@pytest.mark.parametrize("name", MATRIX_PROCESSES)
def test_matrices_are_refused_with_the_reason(name):
    model = matrix_mixture(name)
    with pytest.raises(ValueError, match="are matrices, and the change of volume"):
        flowsolve.log_likelihood(model, model.draw(2))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"solver": "ddpm"}, ValueError, "deterministic solver"),
        ({"solver": flowsolve.plan("ddim", RF, nfe=4)}, ValueError, "plan runs from noise to data"),
        ({"grid": "uniform"}, ValueError, "grid='uniform' is for a solver: expected solver="),
        ({"eta": 1.0}, (TypeError, ValueError), "eta"),
        ({"nfe": 11}, ValueError, "nfe=11: expected 12 to 10000"),
        ({"n_probes": 4}, ValueError, "n_probes=4: expected None unless"),
        (
            {"divergence": "hutchinson", "n_probes": 1},
            ValueError,
            "n_probes=1: expected an integer",
        ),
        (
            {"divergence": "exakt"},
            ValueError,
            "divergence='exakt' is not known. Did you mean 'exact",
        ),
        ({"x": torch.zeros(2, 3)}, ValueError, r"x has shape \(2, 3\)"),
        ({"x": torch.zeros(2, 2) / 0}, ValueError, "x has NaN or Inf"),
        (
            {"prior": lambda z: z},
            ValueError,
            r"prior: it gave .*; expected a tensor of shape \(2,\)",
        ),
        ({"seed": [1, 2, 3], "divergence": "hutchinson"}, ValueError, "seed=.*one for each of 2"),
        ({"solver": "ddim", "grid": [1.0, 0.5, 0.0]}, ValueError, "grid=.*ends on clean data"),
    ],
)
def test_what_cannot_be_is_refused_by_name(change, error, message):
    model = flowsolve.Denoiser(elementwise, RF, "velocity", (2,))
    with pytest.raises(error, match=message):
        flowsolve.log_likelihood(model, **{"x": torch.zeros(2, 2), **change})


def test_models_that_have_no_likelihood_are_refused():
    x = torch.zeros(2, 2)
    model = flowsolve.Denoiser(elementwise, RF, "velocity", (2,))
    with pytest.raises(ValueError, match=r"correct_x0.*no density"):
        flowsolve.log_likelihood(replace(model, correct_x0=flowsolve.clip()), x)

    @torch.no_grad()
    def net(x, t):
        return elementwise(x, t)

    with pytest.raises(ValueError, match="no gradient with respect to the state"):
        flowsolve.log_likelihood(replace(model, net=net), x, nfe=12)
