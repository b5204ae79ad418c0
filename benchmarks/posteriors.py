"""The tables of docs/posteriors.md: ``python benchmarks/posteriors.py``, a minute on one core."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import test_editing as mixtures  # pyright: ignore[reportMissingImports]
import test_posterior as gaussians  # pyright: ignore[reportMissingImports]

import flowsolve
from flowsolve import krylov, measurements, posteriors
from flowsolve.models import data

F64 = torch.float64
RF = flowsolve.RectifiedFlow()
BUDGETS = (20, 50, 100)


class Blind(posteriors.Posterior):
    """x̂₀ itself where no signal is left."""

    def changed(self, inside, x, level, times):
        if level.pure_noise:
            return inside.evaluate_both(x, level, times)
        return super().changed(inside, x, level, times)


def gaussian_data() -> None:
    """Error of the mean, in standard deviations, and of the covariance, by run."""
    rows = (
        ("mmps", "vpc3"),
        ("mmps", "auto"),
        ("mmps", "ddim"),
        ("blind", "vpc3"),
        ("pgdm", "vpc3"),
    )
    model = gaussians.gaussian(RF, (6,))
    m, c = gaussians.law(model)
    x0 = model.draw(1, seed=3).flatten()
    for method, solver in rows:
        for kind in ("mask", "matrix"):
            H, h = gaussians.measurement(kind, (6,))
            y = h @ x0 + 0.1 * gaussians.normal(3, seed=4)
            mean, cov = gaussians.given(m, c, h, y, 0.01 * torch.eye(3, dtype=F64))
            if method == "blind":
                measured = measurements.measurement_of(model, y, H)
                post = Blind.given_that(model, measured, 0.1, "mmps")
            else:
                post = flowsolve.posterior(model, y, H, noise=0.1, method=method)
            cells = []
            for nfe in BUDGETS:
                offset, matrix, s = gaussians.run_of(post, model, solver, nfe)
                a, r = s.A.value, s.R.value
                start = a * a * cov + r * r * torch.eye(6, dtype=F64)
                wrong = (offset + matrix @ (a * mean) - mean) / cov.diagonal().sqrt()
                error = (matrix @ start @ matrix.T - cov).norm() / cov.norm()
                cells.append(f"{wrong.abs().max():.0e}, {error:.0e}")
            print(f"{method}, {solver}, {kind}:", *cells, sep=" | ")
    seen, hidden = gaussians.SEEN, ~gaussians.SEEN
    h = torch.eye(6, dtype=F64)[seen]
    mean, cov = gaussians.given(m, c, h, h @ x0, torch.zeros(3, 3, dtype=F64))
    for iterations in (1, 5):
        cells = []
        for nfe in BUDGETS:
            how = {"method": "repaint", "iterations": iterations, "nfe": nfe, "seed": 0}
            x = flowsolve.inpaint(model, x0.expand(8000, 6), seen, **how)
            wrong = ((x.mean(0) - mean) / cov.diagonal().sqrt())[hidden].abs().max()
            part = cov[hidden][:, hidden]
            error = (torch.cov(x.T)[hidden][:, hidden] - part).norm() / part.norm()
            cells.append(f"{wrong:.2f}, {error:.2f}")
        print(f"repaint, {iterations} iterations, mask:", *cells, sep=" | ")


def mixture_data() -> None:
    """Weights of the components, error of the mean, and of SMC's log p(y)."""
    model, sigma, y = mixtures.three(RF), 0.3, torch.tensor([0.2], dtype=F64)
    weights, mean, evidence = mixtures.truth(model, 0.2, sigma)
    print("truth:", _numbers(weights))
    for method, solver in (("mmps", "vpc3"), ("mmps", "ddpm"), ("pgdm", "vpc3")):
        for nfe in BUDGETS:
            post = flowsolve.posterior(model, y, mixtures.H, noise=sigma, method=method)
            x = flowsolve.sample(post, solver=solver, nfe=nfe, n=8000, seed=0)
            found = mixtures.component(model, x).mean(0)
            print(method, solver, nfe, _numbers(found), f"{(x.mean(0) - mean).norm():.3f}")

    def run(nfe: int, particles: int, seed: int) -> flowsolve.Particles:
        return flowsolve.smc(
            model, y, mixtures.H, noise=sigma, particles=particles, nfe=nfe, seed=seed
        )

    for nfe in (*BUDGETS, 200):
        runs = [run(nfe, 4000, seed) for seed in range(5)]
        found = torch.stack([run.weights @ mixtures.component(model, run.x) for run in runs])
        wrong = [float((run.weights @ run.x - mean).norm()) for run in runs]
        logs = [run.log_evidence - evidence for run in runs]
        print(
            f"smc {nfe}: {_numbers(found.mean(0))}, worst {(found - weights).abs().max():.3f}, "
            f"mean {sum(wrong) / 5:.3f}, log p(y) {sum(logs) / 5:+.3f}"
        )
    runs = [run(100, 16, seed) for seed in range(60)]
    found = torch.stack([run.weights @ mixtures.component(model, run.x) for run in runs])
    print("16 particles, 60 runs:", _numbers(found.mean(0)), "deviation", _numbers(found.std(0)))


def _numbers(values: Tensor) -> str:
    return "(" + ", ".join(f"{v:.3f}" for v in values.tolist()) + ")"


def conjugate_gradients(product, b, variance):
    """What :func:`flowsolve.krylov.solved` is where M is a covariance, without its δ."""
    r, p, rho, shift = b, b, b.square().sum(1), torch.zeros(())
    least, running = krylov.RESIDUAL**2 * rho, rho > 0.0
    for _ in range(32):
        seen, moved = product(p)
        q = variance * p + seen
        curvature = (p * q).sum(1)
        running = running & (curvature > 0.0)
        step = torch.where(running, rho / torch.where(running, curvature, 1.0), 0.0)
        r, shift = r - step[:, None] * q, shift + step.view(-1, 1, 1, 1) * moved
        new = r.square().sum(1)
        turn = torch.where(running, new / torch.where(running, rho, 1.0), 0.0)
        p, rho = r + turn[:, None] * p, torch.where(running, new, rho)
        running = running & (rho > least)
        if not running.any():
            break
    return r, shift


def digits() -> None:
    """The shipped model, the lower half of 32 held-out digits hidden, 20 evaluations."""
    x, model = data.data().held_out[:32], flowsolve.digits()
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, :4] = True
    ours, plain, spent = posteriors.solved, posteriors.Look.product, 0

    def counted(self, w):
        nonlocal spent
        spent += 1
        return plain(self, w)

    posteriors.Look.product = counted
    for noise in (0.3, 0.1, 0.03, 0.01):
        z = torch.randn(32, 32, generator=torch.Generator().manual_seed(0))
        post = flowsolve.posterior(model, x[:, mask] + noise * z, mask, noise=noise)
        for name, how in (("cg", conjugate_gradients), ("ours", ours)):
            posteriors.solved = how
            for solver in ("auto", "ddpm"):
                spent = 0
                out = flowsolve.sample(post, solver=solver, nfe=20, seed=0)
                known = (out - x)[:, mask].square().mean().sqrt()
                largest = f"largest {out.abs().max():.3g}, known {known:.3g}"
                print(noise, name, solver, largest, f"products {spent / 20:.1f}")
    posteriors.solved, posteriors.Look.product = ours, plain
    for strength in (0.1, 0.25, 0.5, 0.75, 1.0):
        out = flowsolve.edit(model, x, strength=strength, nfe=20, seed=0)
        print("edit", strength, f"{(out - x).square().mean().sqrt():.2f}")
    print("two digits", f"{(x - x.roll(1, 0)).square().mean().sqrt():.2f}")


if __name__ == "__main__":
    gaussian_data()
    mixture_data()
    digits()
