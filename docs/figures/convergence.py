"""CLD, a mixture, down to t = 10⁻³: error of the positions against evaluations.

A minute of computing, so the numbers are kept: ``python docs/figures/convergence.py`` makes
convergence.json again, and a test holds it to this file.
"""

import json
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import root
from root import cholesky

import flowsolve
from flowsolve.coordinates import NOISE

PROCESS, END = flowsolve.CLD(), 1e-3
MODEL = flowsolve.exact.Mixture(
    PROCESS, [0.3, 0.5, 0.2], [[1.0, 0.5], [-1.0, 0.3], [0.2, -1.2]], 0.05
)
START = MODEL.draw(64, level=PROCESS.t_max, seed=0)
NUMBERS = Path(root.__file__).with_name("convergence.json")  # Sphinx runs this without a __file__
COUNTS = (10, 14, 20, 30, 50, 100, 200, 500, 1000)


def grid(steps):
    """Equal steps in √t, as in the CLD paper."""
    return [1.0, *(np.linspace(1.0, END**0.5, steps + 1)[1:-1] ** 2).tolist(), END]


def named(solver, nfe):
    """A solver of the library; heun makes a step with two evaluations."""
    steps = nfe // 2 if solver == "heun" else nfe
    return flowsolve.sample(MODEL, solver=solver, nfe=nfe, grid=grid(steps), start=START)


def euler(nfe):
    """Euler's method in t: x' = A'x̂0 + R'ε̂."""
    x = START
    for s, t in pairwise(map(PROCESS.level, grid(nfe))):
        dA, dR = PROCESS.rates(s)
        x0, eps = MODEL(x, s)
        x = x + (t.t - s.t) * (dA @ x0 + dR @ eps)
    return x


def with_cholesky(nfe):
    """The exact integral over each step with Oᵀε̂ held instead of ε̂: dx̄ = d(A⁻¹R) O · Oᵀε̂."""
    x, (places, weights) = START, np.polynomial.legendre.leggauss(24)
    for s, t in pairwise(map(PROCESS.level, grid(nfe))):
        held = cholesky(s)[1].T @ MODEL(x, s).eps
        x = NOISE.transport(s, t) @ x
        for place, weight in zip(places, weights, strict=True):  # Gauss-Legendre in √τ
            root = s.t**0.5 + 0.5 * (1 + place) * (t.t**0.5 - s.t**0.5)
            level = PROCESS.level(root**2)
            slope = NOISE.transport(level, t) @ NOISE.slope(PROCESS, level)[1] @ cholesky(level)[1]
            x = x + (weight * root * (t.t**0.5 - s.t**0.5)) * (slope @ held)
    return x


METHODS = {
    "Euler in t": euler,
    "Cholesky factor": with_cholesky,
    "heun": partial(named, "heun"),
    "ddim": partial(named, "ddim"),
    "etd3": partial(named, "etd3"),
    "unipc3": partial(named, "unipc3"),
}


@lru_cache
def reference():
    return flowsolve.solve(
        MODEL, solver="scipy:DOP853", rtol=1e-12, atol=1e-12, grid=[1.0, END], start=START
    ).x


def error(method, nfe):
    """Root mean square over samples and positions."""
    return PROCESS.data(METHODS[method](nfe) - reference()).square().mean().sqrt().item()


def draw():
    figure, axis = plt.subplots(figsize=(7.4, 4.0), layout="constrained")
    numbers = json.loads(NUMBERS.read_text(encoding="utf-8"))
    for name, marker in zip(METHODS, "osvPX^", strict=True):
        axis.loglog(COUNTS, numbers[name], marker=marker, label=name)
    axis.set(xlabel="evaluations", ylabel="rms error of the positions")
    axis.legend()
    return figure


if __name__ == "__main__":
    found = {name: [float(f"{error(name, n):.4g}") for n in COUNTS] for name in METHODS}
    NUMBERS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
