"""Misuse on processes whose A and R are matrices: what is said."""

import math

import pytest
import torch
from problems import MATRIX_PROCESSES, MATRIX_SHAPES, elementwise

import flowsolve
from flowsolve.processes import CLD, Blurring
from flowsolve.solvers import Multistep, Polynomial, ReverseSDE


def network(name, net=elementwise):
    return flowsolve.Denoiser(net, MATRIX_PROCESSES[name], "eps", MATRIX_SHAPES[name])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CLD(beta=-1.0), "beta=-1.0: expected a positive number"),
        (lambda: CLD(inverse_mass=0.0), "inverse_mass=0.0: expected a positive number"),
        (lambda: CLD(gamma=math.nan), "gamma=nan: expected a number >= 0"),
        (lambda: CLD(c0=math.inf), "c0=inf"),
        (lambda: CLD(beta=True), "beta=True"),
        (lambda: CLD(gamma=0.0, c0=0.0), "gamma=0 and c0=0: expected one of them positive"),
        (lambda: CLD(beta=1e300), r"beta=1e\+300.*there is no signal at t=1"),
        (lambda: CLD(beta=1e-300), r"beta=1e-300.*there is no noise"),
        (lambda: Blurring(0), r"size=0: expected the height and width"),
        (lambda: Blurring((4, -1)), r"size=\(4, -1\)"),
        (lambda: Blurring((4, 4, 3)), r"size=\(4, 4, 3\)"),
        (lambda: Blurring(8.0), r"size=8.0"),
        (lambda: Blurring(True), "size=True"),
        (lambda: Blurring(4, sigma_max=-1.0), "sigma_max=-1.0"),
        (lambda: Blurring(4, sigma_max=math.nan), "sigma_max=nan"),
        (lambda: Blurring(4, t_max=1.5), "t_max=1.5"),
        (lambda: CLD().level(1.5), "t=1.5"),
        (lambda: CLD().level(-0.5), "t=-0.5: expected 0 <= t <= 1, or -inf for clean data"),
        (lambda: Blurring(4).level(0.999), "t=0.999"),
        (lambda: CLD().level(math.nan), "t=nan"),
        (lambda: CLD().at("sigma", 1.0), "have no sigma"),
        (lambda: Blurring(4).at("lambda", 1.0), "have no sigma"),
        (lambda: CLD().rates(CLD().level(0.0)), "dR/dt is infinite"),
        *(
            (
                lambda p=p: flowsolve.Denoiser(elementwise, CLD(), p, (2,)),
                f"predicts='{p}'.*matrices",
            )
            for p in ("v", "velocity", "score", "F")
        ),
        (
            lambda: flowsolve.Denoiser(elementwise, Blurring(4), "eps", (3, 4, 5)),
            r"shape=\(3, 4, 5\).*expected \(channels, 4, 4\)",
        ),
        (lambda: flowsolve.Denoiser(elementwise, Blurring(4), "eps", (4,)), r"shape=\(4,\)"),
        (
            lambda: flowsolve.sample(network("cld"), start=torch.zeros(3, 2)),
            r"start has shape \(3, 2\); expected \(n, 4\)",
        ),
        (
            lambda: flowsolve.sample(network("cld", lambda x, t: x[:, :2])),
            r"shape \(1, 2\) for a state of shape \(1, 4\).*shape of the data",
        ),
        (
            lambda: flowsolve.encode(network("cld"), torch.zeros(3, 4)),
            r"x has shape \(3, 4\); expected \(n, 2\)",
        ),
        (
            lambda: flowsolve.sample(network("cld"), solver="ddim", eta=0.5),
            "eta=0.5.*use solver='gddim' with lam",
        ),
        (
            lambda: flowsolve.sample(network("cld"), solver="gddim", lam=lambda sigma: 1.0),
            "a function of σ̄ needs levels that have one",
        ),
        (lambda: flowsolve.sample(network("cld"), solver="gddim", lam=-1.0), "lam=-1.0"),
        (
            lambda: flowsolve.sample(network("cld"), solver="dpmpp2s_a", eta=0.5),
            "eta=0.5.*use ReverseSDE",
        ),
        (
            lambda: flowsolve.sample(network("cld"), solver=ReverseSDE(Multistep(Polynomial(3)))),
            "polynomials of x̂0; use an inner solver in DATA",
        ),
        (lambda: flowsolve.sample(network("cld"), solver="DPM++ 2M Karras"), "grid=.*Karras"),
        (
            lambda: flowsolve.encode(network("cld"), torch.zeros(3, 2), solver="gddim"),
            "on the way down only",
        ),
    ],
)
def test_misuse(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()
