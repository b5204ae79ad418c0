"""Posteriors given y = Hx0 + n, against closed forms; what goes into them, and what is refused."""

from __future__ import annotations

import dataclasses
import pickle

import pytest
import torch
from problems import F64, MATRIX_PROCESSES, PROCESSES, Tanh, elementwise, mixture
from test_modes import MODES
from torch import Tensor
from torch.autograd.functional import jacobian

import flowsolve
from flowsolve import exact, krylov
from flowsolve.krylov import MOST, RESIDUAL, doubt, solved
from flowsolve.models import data
from flowsolve.processes import Level, Process

VP, RF = flowsolve.VP(), flowsolve.RectifiedFlow()
#: Processes with pure noise, nearly so, and far from it; and shapes.
FEW = {"rectified_flow": (6,), "cosine": (2, 3), "vp": (1, 3, 2), "edm": (6, 1)}
BLUR = torch.tensor([[1.0, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]], dtype=F64) / 2
SEEN = torch.tensor([True, True, False, True, False, False])
KINDS = ["mask", "matrix", "function"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=generator(seed))


def gaussian(process: Process, shape: tuple[int, ...]) -> exact.Gaussian:
    """Correlated data of variances 1.5 to 0.01."""
    basis = torch.linalg.qr(normal(6, 6)).Q
    c = basis @ torch.diag(torch.tensor([1.5, 1.0, 0.5, 0.2, 0.05, 0.01], dtype=F64)) @ basis.T
    return exact.Gaussian(process, normal(6, seed=1).view(shape), 0.5 * (c + c.T))


def law(model: exact.Gaussian) -> tuple[Tensor, Tensor]:
    """Its mean and covariance, of flattened samples."""
    basis, c = model.law.basis[0], model.law.variances[0]
    return model.law.means[0], basis @ torch.diag(c) @ basis.T


def given(m: Tensor, c: Tensor, h: Tensor, y: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of N(m, c) when h x + n = y has been seen, n of covariance ``noise``."""
    gain = c @ h.T @ torch.linalg.inv(h @ c @ h.T + noise)
    return m + gain @ (y - h @ m), c - gain @ h @ c


def measurement(kind: str, shape: tuple[int, ...]):
    """(H, its matrix) for a kind of H."""
    if kind == "mask":
        return SEEN.view(shape), torch.eye(6, dtype=F64)[SEEN]
    if kind == "matrix":
        return BLUR, BLUR
    return lambda x: (x.flatten(1) @ BLUR.to(x).T).view(len(x), 1, 3), BLUR


def run_of(post, model: exact.Gaussian, solver: str, nfe: int) -> tuple[Tensor, Tensor, Level]:
    """(offset, matrix) of the affine map that a run is, from its values at unit starts."""
    first = flowsolve.plan(solver, model.process, nfe=nfe).levels[0]
    starts = torch.cat([torch.zeros(1, 6, dtype=F64), torch.eye(6, dtype=F64)])
    ends = flowsolve.sample(post, solver=solver, nfe=nfe, start=starts.view(-1, *model.data_shape))
    ends = ends.flatten(1)
    return ends[0], (ends[1:] - ends[0]).T, first


@pytest.mark.sweep(keep=8)
@pytest.mark.parametrize("noise", [0.1, 0.01])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FEW)
def test_of_gaussian_data_runs_end_on_the_posterior(name, kind, noise):
    """The issue's target is 2e-2 standard deviations and 1e-4. The mean is exact on every grid but
    for the residual at which the equations are left; the covariance has the solver's error."""
    shape = FEW[name]
    model, (H, h) = gaussian(PROCESSES[name], shape), measurement(kind, shape)
    m, c = law(model)
    y = h @ model.draw(1, seed=3).flatten() + noise * normal(len(h), seed=4)
    mean, covariance = given(m, c, h, y, noise**2 * torch.eye(len(h), dtype=F64))
    shaped = y.view(1, 3) if kind == "function" else y
    post = flowsolve.posterior(model, shaped, H, noise=noise)
    for nfe, least in ((20, 2e-2), (100, 1e-4)):
        offset, matrix, s = run_of(post, model, "vpc3", nfe)
        a, r = s.A.value, s.R.value
        start = a * a * covariance + r * r * torch.eye(6, dtype=F64)  # not exactly the prior
        wrong = (offset + matrix @ (a * mean) - mean) / covariance.diagonal().sqrt()
        assert wrong.abs().max() < 1e-4
        assert (matrix @ start @ matrix.T - covariance).norm() < least * covariance.norm()


@pytest.mark.parametrize("name", PROCESSES)
def test_of_gaussian_data_every_prediction_is_the_mean(name):
    process = PROCESSES[name]
    model = gaussian(process, (6,))
    m, c = law(model)
    y, s2 = torch.tensor([0.3, -0.4, 0.2], dtype=F64), 0.05**2 * torch.eye(3, dtype=F64)
    post = flowsolve.posterior(model, y, BLUR, noise=0.05)
    mean, covariance = given(m, c, BLUR, y, s2)
    for part in (1.0, 0.99, 0.5, 0.1, 0.02):
        level = process.level(part * process.t_max)
        a, r = level.A.value, level.R.value
        x = a * model.draw(5, seed=2) + r * normal(5, 6, seed=6)
        x0, eps = post(x, level)
        one = torch.eye(6, dtype=F64)
        expected = torch.stack([given(mean, covariance, a * one, z, r * r * one)[0] for z in x])
        # Where no signal is left it is taken from the level that has a thousandth.
        torch.testing.assert_close(x0, expected, rtol=0, atol=1e-2 if level.drowned else 2e-4)
        torch.testing.assert_close(a * x0 + r * eps, x, rtol=0, atol=1e-10 * max(1.0, r))


@pytest.mark.parametrize("method", ["mmps", "pgdm"])
@pytest.mark.parametrize("name", ["vp", "rectified_flow", "edm"])
def test_the_formula_on_a_mixture(name, method):
    """x̂0 + (R²/A) Jᵀ Hᵀ (σ² + H V Hᵀ)⁻¹ (y − H x̂0), written out."""
    model = mixture(PROCESSES[name])
    h, y = torch.tensor([[1.0, -0.5], [0.2, 0.3]], dtype=F64), torch.tensor([0.7, 0.1], dtype=F64)
    post = flowsolve.posterior(model, y, h, noise=0.3, method=method)
    for t in (0.3, 0.6):
        level = model.process.level(t * model.process.t_max)
        x = model.draw(4, level=level, seed=1)
        a, r = level.A.value, level.R.value
        for z, x0 in zip(x, post(x, level).x0, strict=True):
            clean = model(z[None], level).x0[0]
            J = jacobian(lambda w, level=level: model(w[None], level).x0[0], z)
            V = r * r / a * J
            of_y = V if method == "mmps" else torch.eye(2, dtype=F64) * (r * r / (a * a + r * r))
            S = 0.09 * torch.eye(2, dtype=F64) + h @ of_y @ h.T
            expected = clean + V.T @ h.T @ torch.linalg.solve(S, y - h @ clean)
            torch.testing.assert_close(x0, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_what_h_may_be(dtype):
    """A mask, its matrix and its function are the same; a y for each sample is cut as runs are."""
    model = flowsolve.Denoiser(elementwise, VP, "x0", (2, 3), dtype=dtype)
    mask = SEEN.view(2, 3)
    rows = normal(5, 3, seed=2).to(dtype)
    forms = (mask, torch.eye(6, dtype=dtype)[SEEN], lambda x: x.flatten(1)[:, SEEN])
    runs = []
    for H in forms:
        post = flowsolve.posterior(model, rows, H, noise=0.1)
        runs.append(flowsolve.sample(post, nfe=6, seed=0, solver="ddim"))
        assert runs[-1].dtype == dtype and runs[-1].shape == (5, 2, 3)
    for other in runs[1:]:
        torch.testing.assert_close(other, runs[0], rtol=0, atol=1e-4)
    post = flowsolve.posterior(model, rows, mask, noise=0.1)
    one = flowsolve.posterior(model, rows[3], mask, noise=0.1)
    alone = flowsolve.sample(one, nfe=6, seed=0, solver="ddim", n=1, first=3)
    assert torch.equal(alone[0], runs[0][3])
    assert torch.equal(flowsolve.sample(post, nfe=6, seed=0, solver="ddim", batch_size=2), runs[0])
    part = flowsolve.sample(post, nfe=6, seed=0, solver="ddim", first=2, n=2)
    assert torch.equal(part, runs[0][2:4])


@pytest.mark.parametrize("method", ["mmps", "pgdm"])
@pytest.mark.parametrize("solver", ["ddpm", "auto", "adaptive", "heun"])
def test_neighbours_do_not_matter(solver, method):
    """Samples that need few products stand still while others go on, to the bit. (A matrix's own
    products are BLAS's, which may round otherwise in other batches.)"""
    model = flowsolve.Denoiser(elementwise, RF, "velocity", (6,), dtype=F64)
    rows = normal(4, 3) * torch.tensor([[1e-6], [1.0], [30.0], [0.1]], dtype=F64)
    how = {"solver": solver, "seed": 5} | ({} if solver == "adaptive" else {"nfe": 5})
    post = flowsolve.posterior(model, rows, SEEN, noise=0.1, method=method)
    together = flowsolve.sample(post, **how)
    for i in range(4):
        assert torch.equal(flowsolve.sample(post, n=1, first=i, **how)[0], together[i])


def test_a_posterior_of_a_posterior_is_that_of_both():
    model = gaussian(VP, (6,))
    m, c = law(model)
    y1, y2 = torch.tensor([0.3, 0.1, -0.2], dtype=F64), torch.tensor([0.5], dtype=F64)
    h2 = normal(1, 6, seed=9)
    first = flowsolve.posterior(model, y1, BLUR, noise=0.2)
    both = flowsolve.posterior(first, y2.expand(3, 1), h2, noise=0.1)
    noise = torch.diag(torch.tensor([0.04, 0.04, 0.04, 0.01], dtype=F64))
    mean, covariance = given(m, c, torch.cat([BLUR, h2]), torch.cat([y1, y2]), noise)
    level, one = VP.level(0.4), torch.eye(6, dtype=F64)
    a, r = level.A.value, level.R.value
    x = model.draw(3, level=level)
    expected = torch.stack([given(mean, covariance, a * one, z, r * r * one)[0] for z in x])
    torch.testing.assert_close(both(x, level).x0, expected, rtol=0, atol=1e-3)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("noise", [0.3, 0.1, 0.01])
@pytest.mark.parametrize("solver", ["ddpm", "auto"])
def test_a_network_is_no_exact_mean_and_stays_in_bounds(solver, noise):
    """Conjugate gradients leave the shipped digits at 1e1 to 1e5 here: their covariance is neither
    symmetric nor positive."""
    x = data.data().held_out[:4]
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, :4] = True
    y = x[:, mask] + noise * normal(4, 32).float()
    post = flowsolve.posterior(flowsolve.digits(), y, mask, noise=noise)
    out = flowsolve.sample(post, solver=solver, nfe=20, seed=0)
    assert out.abs().max() < 1.5
    assert (out - x)[:, mask].square().mean().sqrt() < 1.5 * max(noise, 0.02)


def spd(n: int, m: int) -> Tensor:
    root = normal(n, m, m)
    return root @ root.mT / m


def applied(matrices: Tensor):
    return lambda w: ((matrices * w[:, None]).sum(2), w)


def test_equations_of_a_covariance():
    matrices, b = spd(5, 8), normal(5, 8, seed=1)
    b[2] = 0.0
    u, same = solved(applied(matrices), b, 0.25)
    assert torch.equal(u, same)
    system = matrices + 0.25 * torch.eye(8, dtype=F64)
    rest = torch.linalg.vector_norm(b - (system @ u[..., None])[..., 0], dim=1)
    assert (rest <= 1.01 * RESIDUAL * torch.linalg.vector_norm(b, dim=1)).all()
    for i in range(5):
        alone, _ = solved(applied(matrices[i : i + 1]), b[i : i + 1], 0.25)
        assert torch.equal(alone[0], u[i])


def test_equations_of_what_is_none(monkeypatch):
    """M is no covariance: δ is how far it is from one, and it is solved with that much noise more.
    After as many products as there are numbers the space is the whole one."""
    monkeypatch.setattr(krylov, "RESIDUAL", 0.0)
    M, b = normal(6, 7, 7), normal(6, 7, seed=1)
    u, _ = solved(applied(M), b, 1e-4)
    skew = torch.linalg.matrix_norm(0.5 * (M - M.mT)) / 2**0.5
    least = torch.linalg.eigvalsh(0.5 * (M + M.mT))[:, 0]
    delta = skew - least.clamp(max=0.0)
    torch.testing.assert_close(doubt(M), delta)
    system = M + (1e-4 + delta)[:, None, None] * torch.eye(7, dtype=F64)
    torch.testing.assert_close((system @ u[..., None])[..., 0], b, rtol=1e-9, atol=1e-9)
    assert (u.norm(dim=1) <= b.norm(dim=1) / (skew + 1e-4)).all()  # whatever M is
    torch.testing.assert_close(doubt(spd(3, 4)), torch.zeros(3, dtype=F64), rtol=0, atol=1e-12)


def test_equations_end():
    calls = 0

    def product(w):
        nonlocal calls
        calls += 1
        return w * torch.logspace(0, 6, 200, dtype=F64), w

    solved(product, normal(2, 200), 1e-8)
    assert calls == MOST
    broken, _ = solved(lambda w: (w * torch.nan, w), normal(2, 3), 1.0)
    assert torch.equal(broken, torch.zeros(2, 3, dtype=F64))  # the run says who was not finite


@pytest.mark.parametrize("method", ["mmps", "pgdm"])
def test_gradients_pass(method):
    model = mixture(VP)
    y = torch.tensor([0.4], dtype=F64)
    post = flowsolve.posterior(model, y, torch.tensor([[1.0, 0.5]]), noise=0.1, method=method)

    def end(start):
        how = {"nfe": 3, "solver": "ab2", "differentiable": True}
        return flowsolve.solve(post, start=start, **how).x

    assert torch.autograd.gradcheck(end, normal(2, 2).requires_grad_(), atol=1e-6)
    assert not flowsolve.sample(post, n=1, nfe=3).requires_grad


def test_modes_and_networks():
    torch.manual_seed(0)
    net = Tanh(torch.nn.Linear(6, 6))
    model = flowsolve.Denoiser(net, VP, "v", (6,))
    y, how = torch.tensor([0.1, 0.2, 0.3]), {"nfe": 4, "n": 2, "seed": 0}
    expected = flowsolve.sample(flowsolve.posterior(model, y, BLUR, noise=0.1), **how)
    assert expected.dtype == torch.float32 and not expected.requires_grad
    assert all(p.grad is None for p in net.parameters())
    with torch.inference_mode():
        post = flowsolve.posterior(model, y.clone(), BLUR.clone(), noise=0.1)
        inside = flowsolve.sample(post, **how)
    assert torch.equal(inside, expected) and torch.equal(flowsolve.sample(post, **how), expected)
    assert torch.equal(flowsolve.sample(pickle.loads(pickle.dumps(post)), **how), expected)
    clipped = dataclasses.replace(post, correct_x0=flowsolve.clip(-0.01, 0.01))
    assert flowsolve.sample(clipped, solver="ddim", **how).abs().max() <= 0.01 + 1e-6
    half = flowsolve.Denoiser(net.bfloat16(), VP, "v", (6,))
    rough = flowsolve.sample(flowsolve.posterior(half, y, BLUR, noise=0.1), **how)
    assert rough.dtype == torch.float32 and rough.isfinite().all()


@pytest.mark.parametrize("mode", MODES)
def test_torchs_modes_reach_nothing(mode):
    model = flowsolve.Denoiser(elementwise, flowsolve.VP.cosine(), "v", (6,), dtype=F64)
    y, mask = normal(3, seed=4), SEEN

    def results():
        yield flowsolve.sample(flowsolve.posterior(model, y, BLUR, noise=0.1), nfe=4, n=2, seed=0)
        for method in ("pgdm", "repaint"):
            how = {"method": method, "nfe": 6, "seed": 1}
            yield flowsolve.inpaint(model, rows, mask, **how)
        found = flowsolve.smc(model, y, mask, noise=0.1, nfe=5, particles=4, seed=2)
        yield from (found.x, found.weights, found.ess)
        yield flowsolve.edit(model, rows, strength=0.5, nfe=4, seed=3, solver="ddpm")

    rows = normal(2, 6)
    with MODES[mode]():
        inside = [*results()]
    for a, b in zip(inside, results(), strict=True):
        assert a.device.type == "cpu" and torch.equal(a, b) and not b.requires_grad


def test_two_channels_and_learned_variances():
    def net(x, t):
        return torch.cat([elementwise(x, t), torch.full_like(x, 0.3)], 1)

    model = flowsolve.Denoiser(net, VP, "eps", (2, 3), variance="learned_range")
    post = flowsolve.posterior(model, torch.tensor([0.5]), torch.ones(1, 6), noise=0.2)
    assert flowsolve.sample(post, solver="ddpm", nfe=4, n=2, seed=0).isfinite().all()


REFUSED = {
    "mask": (
        torch.zeros(2, 3, dtype=torch.bool),
        ValueError,
        "H=.*mask of shape .2, 3., True some",
    ),
    "mask's shape": (SEEN, ValueError, r"H=.*shape \(2, 3\)"),
    "matrix": (torch.ones(2, 5), ValueError, r"H=.*\(m, 6\)"),
    "integers": (torch.ones(2, 6, dtype=torch.int64), TypeError, "H=.*mask of truth values"),
    "number": (3.0, TypeError, "H=3.0: expected a mask"),
    "nan": (torch.full((1, 6), torch.nan), ValueError, "H has NaN"),
    "constant": (lambda x: x.flatten(1) + 1.0, ValueError, "H is not linear"),
    "square": (lambda x: x.square(), ValueError, "H is not linear"),
    "mean": (lambda x: x - x.mean(0), ValueError, "H is not linear|depends on the others"),
    "batch": (lambda x: x.flip(0), ValueError, "H is not linear|depends on the others"),
    "detached": (lambda x: x.detach(), ValueError, "H has no gradient"),
    "rows": (lambda x: x[:1], ValueError, "H returned shape .1, 2, 3. for 3 samples"),
    "list": (lambda x: [1.0], TypeError, "H returned .*tensor with a row"),
    "infinite": (lambda x: x / 0.0, ValueError, "H returned NaN or Inf"),
    "nothing": (lambda x: x[:, :0], ValueError, "expected some numbers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_h_may_not_be(name):
    H, error, text = REFUSED[name]
    model = flowsolve.Denoiser(elementwise, VP, "eps", (2, 3))
    with pytest.raises(error, match=text):
        flowsolve.posterior(model, torch.zeros(1), H, noise=0.1)


def test_what_else_is_refused():
    model = flowsolve.Denoiser(elementwise, VP, "eps", (6,))
    y = torch.zeros(3)

    def refused(text, model=model, y=y, H=BLUR, error=ValueError, **how):
        with pytest.raises(error, match=text):
            flowsolve.posterior(model, y, H, **{"noise": 0.1} | how)

    refused(r"y has shape \(2,\); expected \(3\), or \(n, 3\)", y=torch.zeros(2))
    refused("y=.*finite", y=torch.full((3,), torch.inf))
    refused("y=", y=[0.0] * 3, error=TypeError)
    refused("noise=0.0: expected a positive number.*singular", noise=0.0)
    refused("noise=-1", noise=-1)
    refused("method='dps' is not known.*mmps, pgdm", method="dps")
    refused("method='smc'.*flowsolve.smc", method="smc")
    refused("correct_x0=.*replace", model=dataclasses.replace(model, correct_x0=flowsolve.clip()))
    refused("its shape is None", model=flowsolve.Denoiser(elementwise, VP))
    for name, process in MATRIX_PROCESSES.items():
        other = flowsolve.Denoiser(elementwise, process, "eps", getattr(process, "size", (6,)))
        with pytest.raises(flowsolve.errors.Unsuited, match="are matrices"):
            flowsolve.posterior(other, y, BLUR, noise=0.1)
        assert name
    told = model.given(label=torch.arange(5))
    rows = torch.zeros(5, 3)
    refused("label may have a row for each sample.*per_sample", model=told, y=rows)

    @torch.no_grad()
    def blind(x, t):
        return elementwise(x, t)

    post = flowsolve.posterior(flowsolve.Denoiser(blind, VP, "eps", (6,)), y, BLUR, noise=0.1)
    with pytest.raises(ValueError, match="no gradient with respect to the state"):
        flowsolve.sample(post, nfe=2)
    post = flowsolve.posterior(model, rows, BLUR, noise=0.1)
    with pytest.raises(ValueError, match="measured y: 5 rows for the samples 0 to 6"):
        flowsolve.sample(post, nfe=2, n=7)
    broken = flowsolve.Denoiser(lambda x, t: x * torch.nan, VP, "eps", (6,))
    with pytest.raises(flowsolve.NonFiniteError):
        flowsolve.sample(flowsolve.posterior(broken, y, BLUR, noise=0.1), nfe=2)
