"""The tables of docs/posteriors.md: ``python benchmarks/posteriors.py``, two minutes on one core.
Writes benchmarks/results/posteriors.json, which tests/test_tables_again.py holds the page to.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import test_editing as mixtures  # pyright: ignore[reportMissingImports]
import test_posterior as gaussians  # pyright: ignore[reportMissingImports]

import flowsolve
from flowsolve import krylov, measurements, posteriors
from flowsolve.models import data

F64 = torch.float64
RESULTS = Path(__file__).parent / "results" / "posteriors.json"
RF = flowsolve.RectifiedFlow()
BUDGETS = (20, 50, 100)


class Blind(posteriors.Posterior):
    """x̂₀ itself where no signal is left."""

    def changed(self, inside, x, level, times):
        if level.pure_noise:
            return inside.evaluate_both(x, level, times)
        return super().changed(inside, x, level, times)


def gaussian_data() -> dict[str, Any]:
    """Error of the mean, in standard deviations, and of the covariance, by run and budget."""
    found: dict[str, Any] = {}
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
            cells = found.setdefault(f"{method}, {solver}", {})[kind] = {}
            for nfe in BUDGETS:
                offset, matrix, s = gaussians.run_of(post, model, solver, nfe)
                a, r = s.A.value, s.R.value
                start = a * a * cov + r * r * torch.eye(6, dtype=F64)
                wrong = (offset + matrix @ (a * mean) - mean) / cov.diagonal().sqrt()
                error = (matrix @ start @ matrix.T - cov).norm() / cov.norm()
                cells[str(nfe)] = rounded(wrong.abs().max(), error)
    seen, hidden = gaussians.SEEN, ~gaussians.SEEN
    h = torch.eye(6, dtype=F64)[seen]
    mean, cov = gaussians.given(m, c, h, h @ x0, torch.zeros(3, 3, dtype=F64))
    for iterations in (1, 5):
        cells = found.setdefault("repaint", {})[str(iterations)] = {}
        for nfe in BUDGETS:
            how = {"method": "repaint", "iterations": iterations, "nfe": nfe, "seed": 0}
            x = flowsolve.inpaint(model, x0.expand(8000, 6), seen, **how)
            wrong = ((x.mean(0) - mean) / cov.diagonal().sqrt())[hidden].abs().max()
            part = cov[hidden][:, hidden]
            error = (torch.cov(x.T)[hidden][:, hidden] - part).norm() / part.norm()
            cells[str(nfe)] = rounded(wrong, error)
    return found


def mixture_data() -> dict[str, Any]:
    """Weights of the components, error of the mean, and of SMC's log p(y)."""
    model, sigma, y = mixtures.three(RF), 0.3, torch.tensor([0.2], dtype=F64)
    weights, mean, evidence = mixtures.truth(model, 0.2, sigma)
    rows: dict[str, Any] = {"truth": {"weights": rounded(*weights)}}
    for method, solver in (("mmps", "vpc3"), ("mmps", "ddpm"), ("pgdm", "vpc3")):
        for nfe in BUDGETS:
            post = flowsolve.posterior(model, y, mixtures.H, noise=sigma, method=method)
            x = flowsolve.sample(post, solver=solver, nfe=nfe, n=8000, seed=0)
            found = mixtures.component(model, x).mean(0)
            rows[f"{method}, {solver}, {nfe}"] = {
                "weights": rounded(*found),
                "mean": rounded((x.mean(0) - mean).norm())[0],
            }

    def run(nfe: int, particles: int, seed: int) -> flowsolve.Particles:
        return flowsolve.smc(
            model, y, mixtures.H, noise=sigma, particles=particles, nfe=nfe, seed=seed
        )

    for nfe in (*BUDGETS, 200):
        runs = [run(nfe, 4000, seed) for seed in range(5)]
        found = torch.stack([run.weights @ mixtures.component(model, run.x) for run in runs])
        wrong = [float((run.weights @ run.x - mean).norm()) for run in runs]
        logs = [run.log_evidence - evidence for run in runs]
        rows[f"smc, {nfe}"] = {
            "weights": rounded(*found.mean(0)),
            "worst": rounded((found - weights).abs().max())[0],
            "mean": rounded(sum(wrong) / 5)[0],
            "evidence": rounded(sum(logs) / 5)[0],
        }
    runs = [run(100, 16, seed) for seed in range(60)]
    found = torch.stack([run.weights @ mixtures.component(model, run.x) for run in runs])
    rows["16 particles"] = {"weights": rounded(*found.mean(0)), "deviation": rounded(*found.std(0))}
    return rows


def rounded(*values: Tensor | float) -> list[float]:
    return [float(f"{float(value):.3g}") for value in values]


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


def digits() -> dict[str, Any]:
    """The shipped model, the lower half of 32 held-out digits hidden, 20 evaluations: the largest
    entry, the error where it is known, products an evaluation; and how far edits go."""
    x, model = data.data().held_out[:32], flowsolve.digits()
    found: dict[str, Any] = {"inpaint": {}, "edit": {}}
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
                cells = found["inpaint"].setdefault(str(noise), {})
                cells[f"{name}, {solver}"] = rounded(out.abs().max(), known, spent / 20)
    posteriors.solved, posteriors.Look.product = ours, plain
    for strength in (0.1, 0.25, 0.5, 0.75, 1.0):
        out = flowsolve.edit(model, x, strength=strength, nfe=20, seed=0)
        found["edit"][f"{strength:g}"] = rounded((out - x).square().mean().sqrt())[0]
    found["edit"]["two digits"] = rounded((x - x.roll(1, 0)).square().mean().sqrt())[0]
    return found


if __name__ == "__main__":
    found = {"gaussian": gaussian_data(), "mixture": mixture_data(), "digits": digits()}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
