"""Tables of the documentation that need no file of results: what they measure is measured again."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from statistics import geometric_mean
from typing import Any

import pytest
import torch
from tables import agrees, all_agree, lines_of, result, rows_of, text_of
from test_latents import RF, rms, states
from test_likelihood import error, law, truth

import flowsolve
from flowsolve import Latent, exact
from flowsolve.models import quality
from flowsolve.models.data import data

F64 = torch.float64


def test_wrong_declarations() -> None:
    """The shipped model as it is and as it is not, at four levels of noise."""
    x0, model = data().held_out[:64], flowsolve.digits()
    z = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    changes: list[dict[str, Any]] = [
        {},
        {"process": flowsolve.VP()},
        {"process": RF},
        {"predicts": "velocity"},
        {"predicts": "eps"},
        {"predicts": "x0"},
        {"time": lambda level: 1000 * level.t},
    ]
    right, *wrong = lines_of("start.md", "| | $\\bar\\sigma$ = 0.1 |")
    for (_, *cells), change in zip([right, *wrong], changes, strict=True):
        declared, found = replace(model, **change), []
        for sigma in (0.1, 0.3, 1.0, 3.0):
            level = declared.process.at("sigma", sigma)
            x = level.A.value * x0 + level.R.value * z
            found.append(rms(declared(x, level).x0 - x0))
        assert all_agree(cells, found)
    for _, *cells in wrong:
        assert all(float(a) <= float(b) for a, b in zip(right[1:], cells, strict=True))


@pytest.mark.slow
def test_a_latent_without_its_velocity() -> None:
    x, labels = data().held_out[:8], data().held_out_labels[:8]
    model = flowsolve.digits(labels)
    rows = rows_of("encoding.md", "| | 4 | 10 | 20 | 50 |\n")
    for nfe, *cells in zip((4, 10, 20, 50), *rows.values(), strict=True):
        latent = flowsolve.encode(model, x, nfe=nfe, exact=True)
        whole, alone = latent.decode(model).x, Latent.of(model, latent.x, nfe).decode(model).x
        apart = [float((back - x).abs().max()) for back in (whole, alone)]
        assert cells[0] == "0" and apart[0] == 0.0 and agrees(cells[1], apart[1])


def test_exact_inversion_as_a_sampler() -> None:
    model, start = law(RF), states(64, 2)
    tight: dict[str, Any] = {"solver": "scipy:DOP853", "rtol": 1e-11, "atol": 1e-12}
    end = flowsolve.sample(model, start=start, **tight)
    rows = rows_of("encoding.md", "| nfe | 8 | 16 | 32 | 64 | 128 |")
    even = flowsolve.grids.Shifted(1.0)
    for k, nfe in enumerate((8, 16, 32, 64, 128)):
        heun: dict[str, Any] = {"solver": "flow_heun", "nfe": nfe, "start": start}
        found = {
            "exact": Latent.of(model, start, nfe).decode(model).x,
            "`flow_heun`": flowsolve.sample(model, **heun),
            "`flow_heun`, even steps": flowsolve.sample(model, grid=even, **heun),
        }
        for row, x in found.items():
            assert agrees(rows[row][k], rms(x - end)), (row, nfe)


@pytest.mark.slow
def test_errors_of_parallel_runs() -> None:
    model = flowsolve.digits(torch.arange(32) % 10)
    rows = rows_of("gradients.md", "| | median of the largest entries |")
    for row, cells in rows.items():
        how: dict[str, Any] = {"solver": row.split("`")[1], "nfe": 24, "seed": 0}
        setting = flowsolve.Parallel(1e-3, **({"memory": 0} if "memory" in row else {}))
        run = flowsolve.sample(model, parallel=setting, **how)
        off = (run - flowsolve.sample(model, **how)).flatten(1) / 1e-3
        largest, each = off.abs().amax(1), off.square().mean(1).sqrt()
        found = [float(v) for v in (largest.median(), largest.max(), each.max())]
        assert all_agree(cells, found), row


@pytest.mark.slow
def test_guided_digits() -> None:
    labels = torch.arange(300) % 10

    def guided(
        scale: float, solver: Any = "auto", nfe: int | None = 12, **options: Any
    ) -> list[float]:
        model = flowsolve.guided(flowsolve.digits(labels), {"label": 10}, scale=scale, **options)
        x = flowsolve.sample(model, solver=solver, nfe=nfe, n=300, seed=0)
        return [quality.accuracy(x, labels), 100.0 * float((x.abs() > 1.1).double().mean())]

    for row, cells in rows_of("guidance.md", "| $w$ | accuracy |").items():
        scale, *rest = row.split(", `", 1)
        name, _, value = rest[0].rstrip("`").partition("=") if rest else ("", "", "")
        found = guided(float(scale), **({name: eval(value)} if name else {}))
        assert found[0] == pytest.approx(float(cells[0]), abs=0.004), row
        assert agrees(cells[1], found[1]), row
    smooth = flowsolve.plan("auto", flowsolve.digits(0), nfe=12)
    assert agrees("5.8", guided(3.0, smooth, None, interval=(0.2, 5.0))[1])
    assert "(`fpc3` in its place: 5.8 %.)" in text_of("guidance.md")


@pytest.mark.slow
def test_auto_where_answers_jump() -> None:
    """Its error over that of the rules for answers that do not, on laws it was not chosen on."""
    ratios: dict[int, list[tuple[float, float]]] = {12: [], 20: []}
    angle = torch.arange(8, dtype=F64) * (math.pi / 4)
    plane = torch.stack([angle.cos(), angle.sin()], 1)
    draw = torch.Generator().manual_seed(0)
    wide = 0.6 * torch.randn(8, 192, dtype=F64, generator=draw)
    for process, (means, variance) in product(
        (flowsolve.VP(), flowsolve.EDM(), RF), ((plane, 0.01), (wide, 0.02))
    ):
        two, eight = (exact.Mixture(process, [1.0] * n, means[:n], variance) for n in (2, 8))
        z = torch.randn(64, means.shape[1], dtype=F64, generator=torch.Generator().manual_seed(1))
        start = process.prior(process.start).value * z
        for scale, edges in ((3.0, (0.2, 5.0)), (3.0, (0.3, 2.0)), (2.0, (0.1, 1.0))):
            smooth = flowsolve.guided(two, other=eight, scale=scale)
            jumping = flowsolve.guided(two, other=eight, scale=scale, interval=edges)
            how: dict[str, Any] = {"solver": "heun", "nfe": 3000, "grid": "logistic"}
            truth = flowsolve.sample(jumping, start=start, **how)
            for nfe, each in ratios.items():
                errors = []
                for model in (jumping, smooth):
                    plan = flowsolve.plan("auto", model, nfe=nfe)
                    off = flowsolve.sample(jumping, solver=plan, start=start) - truth
                    errors.append((rms(off), float(off.square().mean(1).sqrt().median())))
                each.append((errors[0][0] / errors[1][0], errors[0][1] / errors[1][1]))
    (rmse, median), (rmse_20, median_20) = (
        [f"{geometric_mean(found):.2f}" for found in zip(*each, strict=True)]
        for each in ratios.values()
    )
    assert (
        f"the RMSE is {rmse} times as large with 12 evaluations and {rmse_20} with 20, and the "
        f"median {median} and {median_20} (geometric means)"
    ) in text_of("tuning.md")


def test_cfg_pp_tends_to_nothing() -> None:
    means, start = ([1.0, 0.5], [-0.5, 0.2]), torch.zeros(1, 2, dtype=F64)
    model, other = (exact.Gaussian(RF, mean, 0.25) for mean in means)
    found = []
    for nfe in (10, 20, 40, 80, 160):
        plan = flowsolve.plan("ddim", RF, nfe=nfe)
        scale = flowsolve.cfg_pp(plan, RF, 0.6)
        guided = flowsolve.guided(model, other=other, scale=scale)
        found.append(float(flowsolve.sample(guided, solver=plan, start=start)[0, 0]))
    (cells,) = lines_of("guidance.md", "| 10 | 20 | 40 | 80 | 160 |")
    assert all_agree(cells, found)


@pytest.mark.late
@pytest.mark.parametrize(
    ("column", "process"),
    [
        (0, flowsolve.RectifiedFlow()),
        (1, flowsolve.VP.cosine()),
        (2, flowsolve.VP()),
        (3, flowsolve.EDM()),
        (4, flowsolve.VE()),
        (5, flowsolve.VP.discrete(flowsolve.tables.linear(1000, 1e-4, 0.02))),
    ],
)
def test_a_prior_that_is_not_the_law(column: int, process: flowsolve.Process) -> None:
    rows = rows_of("likelihood.md", "| | rectified flow | cosine VP |")
    model, noisy = law(process), process.start
    x = model.draw(64)
    for row, prior in (("prior", None), ("`prior=`", lambda z: model.log_density(z, noisy))):
        if rows[row][column]:
            found = flowsolve.log_likelihood(model, x, nfe=288, prior=prior)
            assert agrees(rows[row][column], error(found, truth(model, x)))


SPREADS = {
    "as above": (1.0, [0.02, 0.05, 0.1]),
    "3 times as far": (3.0, [0.05, 0.2, 0.5]),
    "0.3 times": (0.3, [0.002, 0.005, 0.01]),
}


@pytest.mark.late
@pytest.mark.parametrize("steps", [24, pytest.param(32, marks=pytest.mark.slow), 40])
def test_errors_of_likelihoods(steps: int) -> None:
    cells = rows_of("likelihood.md", "| steps | as above |")[str(steps)]
    means = torch.tensor([[-1.0, 0.0], [1.0, 0.5], [0.0, -1.0]], dtype=F64)
    for cell, (scale, variances) in zip(cells, SPREADS.values(), strict=True):
        model = exact.Mixture(RF, [0.3, 0.3, 0.4], scale * means, variances)
        x = model.draw(600)
        off = flowsolve.log_likelihood(model, x, nfe=12 * steps).nats - truth(model, x)
        assert all_agree(cell.split(", "), [float(off.abs().max()), rms(off)]), cell


@pytest.mark.slow
def test_likelihoods_by_other_solvers() -> None:
    model = law(RF)
    x, text = model.draw(600), text_of("likelihood.md")
    tight = flowsolve.log_likelihood(model, x, solver="scipy:DOP853", rtol=1e-9, atol=1e-9)
    assert f"({error(tight, truth(model, x)):.0e} in {tight.nfe}".replace("e-0", "e-") in text
    short = error(flowsolve.log_likelihood(model, x, solver="auto", nfe=40), truth(model, x))
    assert f"40 evaluations is good to {short:.0e}".replace("e-0", "e-") in text


def test_posteriors_of_gaussian_data() -> None:
    found = result("posteriors.json")["gaussian"]
    rows = rows_of("posteriors.md", "| method, solver | mask, nfe = 20 |")
    names = {name.replace("`", ""): name for name in rows}
    names["blind, vpc3"] = names.pop(next(name for name in names if "itself" in name))
    assert {*names} == {*found} - {"repaint"}
    for name, row in names.items():
        pairs = [pair for kind in ("mask", "matrix") for pair in found[name][kind].values()]
        for cell, pair in zip(rows[row], pairs, strict=True):
            assert all_agree(cell.split(", "), pair), (name, cell)
    for row, cells in rows_of("posteriors.md", "| | nfe = 20 | 50 | 100 |").items():
        pairs = found["repaint"][row.split()[0]].values()
        for cell, pair in zip(cells, pairs, strict=True):
            assert all_agree(cell.split(", "), pair)


def test_posteriors_of_a_mixture() -> None:
    found = result("posteriors.json")["mixture"]
    last = ""
    for line in lines_of("posteriors.md", "| | nfe | first | second |"):
        name, budgets, *weights, mean = line
        last = name or last
        kind = last.replace("`", "").split(", 4000")[0].split(", mean")[0]
        for nfe in budgets.split(", "):
            key = kind.replace("smc, 16 particles", "16 particles")
            row = found[key if key in found else f"{key}, {nfe}"]
            assert all_agree(weights, row["weights"]), line
            assert not mean or agrees(mean, row["mean"])
    runs = [row for name, row in found.items() if name.startswith("smc")]
    evidence = [f"{row['evidence']:.3f}".lstrip("0") for row in runs]
    assert f"here too large by {', '.join(evidence[:3])} and {evidence[3]}." in text_of(
        "posteriors.md"
    )
    assert max(round(row["worst"], 3) for row in runs) == 0.010


def test_inpainted_digits() -> None:
    """Entries that diverge are as good as their size: their digits are the processor's."""
    found = result("posteriors.json")["digits"]
    for noise, *cells in lines_of("posteriors.md", "| $\\sigma_y$ | conjugate gradients"):
        for cell, (name, (largest, known, _)) in zip(
            cells, found["inpaint"][noise].items(), strict=True
        ):
            said = cell.split(", ")
            assert agrees(said[0], largest) and agrees(said[1], known), (noise, name)
    cells = rows_of("posteriors.md", "| strength | 0.1 |")["distance"]
    assert all_agree(cells, [*found["edit"].values()])
