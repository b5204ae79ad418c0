"""Guidance: closed forms, what is asked and how often, what travels, what is refused."""

import math
import pickle
from dataclasses import replace

import pytest
import torch
from problems import F64, MATRIX_PROCESSES, elementwise

import flowsolve
from flowsolve import exact
from flowsolve.processes import Levels

PROCESSES = {
    "vp": flowsolve.VP(),
    "cosine": flowsolve.VP.cosine(),
    "rf": flowsolve.RectifiedFlow(),
    "edm": flowsolve.EDM(),
}


def gaussians(process, c=0.25):
    means = (torch.tensor([1.0, 0.5], dtype=F64), torch.tensor([-0.5, 0.2], dtype=F64))
    return [exact.Gaussian(process, m, c) for m in means], means


def states(n=6, seed=0):
    return torch.randn(n, 2, dtype=F64, generator=torch.Generator().manual_seed(seed))


class Net(torch.nn.Module):
    """What it was told is added; counts rows and calls."""

    def __init__(self):
        super().__init__()
        self.rows = []
        self.eval()

    def forward(self, x, t, y=None, z=None):
        self.rows.append(len(x))
        told = 0.0 if y is None else torch.as_tensor(y).to(x).view(-1, *[1] * (x.ndim - 1))
        return elementwise(x, t) + 0.3 * told


def model_of(net, **told):
    model = flowsolve.Denoiser(net, PROCESSES["cosine"], "v", (2,), dtype=F64)
    return model.given(
        **told, per_sample=[k for k, v in told.items() if k == "y" and v is not None]
    )


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("w", [0.0, 0.7, 1.0, 3.0])
def test_gaussians_of_one_covariance_give_the_tilted_gaussian(name, w):
    process = PROCESSES[name]
    (c, u), (mean_c, mean_u) = gaussians(process)
    want = exact.Gaussian(process, mean_u + w * (mean_c - mean_u), 0.25)
    model = flowsolve.guided(c, other=u, scale=w)
    for t in (0.05, 0.5, 0.95):
        level = process.level(process.t_min + t * (process.t_max - process.t_min))
        x = level.A.value * states() + level.R.value * states(seed=1)
        got, true = model(x, level), want(x, level)
        torch.testing.assert_close(got.eps, true.eps, rtol=0, atol=1e-9)
        torch.testing.assert_close(
            got.x0 * level.A.value, true.x0 * level.A.value, rtol=0, atol=1e-9
        )


@pytest.mark.filterwarnings("ignore:entries of the samples")  # of a variance of less than 0.1
def test_of_other_covariances_it_is_not_the_tilted_law():
    """The product of the clean laws has variance 1/7 there; sampling gives far less."""
    process = PROCESSES["rf"]
    zero = torch.zeros(2, dtype=F64)
    c, u = exact.Gaussian(process, zero, 0.25), exact.Gaussian(process, zero, 1.0)
    x = flowsolve.sample(flowsolve.guided(c, other=u, scale=3.0), nfe=40, n=2000, seed=0)
    assert float(x.var()) < 0.5 * (1 / (3 / 0.25 - 2 / 1.0))


@pytest.mark.parametrize("name", PROCESSES)
def test_it_is_the_same_whatever_the_network_predicts(name):
    process = PROCESSES[name]
    (c, u), _ = gaussians(process)
    level = process.level(0.5 * (process.t_min + process.t_max))
    x = level.A.value * states() + level.R.value * states(seed=1)
    found = []
    for predicts in ("eps", "x0", "v", "velocity", "score", "flow"):
        parts = []
        for law in (c, u):

            def net(x, t, law=law, predicts=predicts):
                target = flowsolve.parametrizations.find_parametrization(predicts)
                both = law(x, level)
                a, b = target.target(process, level)
                return a @ both.x0 + b @ both.eps

            parts.append(flowsolve.Denoiser(net, process, predicts, (2,), dtype=F64))
        found.append(flowsolve.guided(parts[0], other=parts[1], scale=2.5)(x, level).eps)
    mixed = flowsolve.guided(parts[0], other=u, scale=2.5)(x, level).eps
    for other in (*found[1:], mixed):
        torch.testing.assert_close(other, found[0], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", PROCESSES)
def test_a_classifier_is_the_difference_of_the_scores(name):
    """With ln p_c − ln p_u for ln p(y|x) it is classifier-free guidance from u."""
    process = PROCESSES[name]
    (c, u), _ = gaussians(process)

    def log_p(x, level):
        def log_density(law):
            a, r = level.A.value, level.R.value
            gap = x - a * law.law.means[0]
            return -0.5 * gap.square().sum(1) / (a * a * 0.25 + r * r)

        return log_density(c) - log_density(u)

    level = process.level(0.4 * process.t_max)
    x = level.A.value * states() + level.R.value * states(seed=1)
    got = flowsolve.guided(u, classifier=log_p, scale=2.0)(x, level).eps
    want = flowsolve.guided(c, other=u, scale=2.0)(x, level).eps
    torch.testing.assert_close(got, want, rtol=0, atol=1e-11)
    assert (
        flowsolve.sample(flowsolve.guided(u, classifier=log_p, scale=2.0), nfe=4, n=2, seed=0)
        .isfinite()
        .all()
    )


@pytest.mark.parametrize("told", [torch.tensor([1.0, 2.0, 3.0]), 2])
def test_one_evaluation_is_one_call_of_twice_the_batch(told):
    net = Net()
    null = torch.zeros(1) if isinstance(told, torch.Tensor) else 0
    model = flowsolve.guided(model_of(net, y=told), {"y": null}, scale=2.0)
    solution = flowsolve.solve(model, solver="ddim", nfe=5, n=3, seed=0)
    assert solution.nfe == 5 and net.rows == [6] * 5
    # What cannot be in one batch is asked for in two calls, and comes to the same.
    net.rows.clear()
    apart = flowsolve.guided(model_of(net, y=told), {"y": None}, scale=2.0)
    other = flowsolve.solve(apart, solver="ddim", nfe=5, n=3, seed=0)
    assert other.nfe == 5 and net.rows == [3] * 10
    torch.testing.assert_close(other.x, solution.x, rtol=0, atol=1e-13)


@pytest.mark.parametrize("how", [{"scale": 1.0}, {"scale": 3.0, "interval": (5.0, 6.0)}])
def test_the_second_branch_is_not_run_where_it_is_not_needed(how):
    net = Net()
    model = model_of(net, y=2)
    guided = flowsolve.guided(model, {"y": 0}, **how)
    grid = [0.7, 0.4, 0.1, 0.0]  # none of them with a sigma of 5 to 6
    x = flowsolve.sample(guided, solver="ddim", grid=grid, n=2, seed=0)
    assert net.rows == [2, 2, 2]
    assert torch.equal(x, flowsolve.sample(model, solver="ddim", grid=grid, n=2, seed=0))


def test_intervals_and_functions_of_the_level():
    process, net = PROCESSES["cosine"], Net()
    model = model_of(net, y=2)
    levels = [process.at("sigma", s) for s in (0.1, 1.0, 10.0)]
    some = flowsolve.guided(model, {"y": 0}, scale=3.0, interval=(0.5, 2.0))
    function = flowsolve.guided(
        model, {"y": 0}, scale=lambda level: 1.0 + 2.0 * (0.5 < level.sigma < 2)
    )
    always = flowsolve.guided(model, {"y": 0}, scale=3.0)
    x = states(3)
    for k, level in enumerate(levels):
        want = (always if k == 1 else model)(x, level).eps
        for each in (some, function):
            torch.testing.assert_close(each(x, level).eps, want, rtol=0, atol=1e-14)
        together = some.evaluate(x, Levels([levels[0], levels[1], levels[2]]))
    for k, level in enumerate(levels):
        torch.testing.assert_close(
            together[k : k + 1], some.evaluate(x[k : k + 1], level), rtol=0, atol=1e-13
        )


@pytest.mark.parametrize("process", [flowsolve.VP(), flowsolve.RectifiedFlow()], ids=repr)
def test_auto_draws_nothing_of_order_three_across_a_jump(process):
    """Eight Gaussians on a circle, guided towards two: the worst samples are what differs."""
    angle = torch.arange(8, dtype=F64) * (math.pi / 4)
    means = torch.stack([angle.cos(), angle.sin()], 1)
    two, eight = (exact.Mixture(process, [1.0] * n, means[:n], 0.01) for n in (2, 8))
    smooth = flowsolve.guided(two, other=eight, scale=3.0)
    jumping = flowsolve.guided(two, other=eight, scale=3.0, interval=(0.2, 5.0))
    told = jumping.given(scale=2.0)
    start = process.prior(process.start).value * states(32)[:, :2]
    third, second, of_told = (flowsolve.plan("auto", m, nfe=12) for m in (smooth, jumping, told))
    assert second == of_told != third
    assert [level.t for level in second.levels] == [level.t for level in third.levels]
    assert flowsolve.plan("auto", jumping, nfe=30) == flowsolve.plan("auto", smooth, nfe=30)
    truth = flowsolve.sample(jumping, solver="heun", nfe=2000, start=start)
    errors = [
        float((flowsolve.sample(jumping, solver=plan, start=start) - truth).square().mean())
        for plan in (second, third)
    ]
    assert errors[0] < 0.2 * errors[1]


@pytest.mark.parametrize("solver", ["ddim", "unipc3", "adaptive"])
def test_scales_of_samples_go_with_them(solver):
    scales = torch.tensor([1.0, 2.0, 0.5, 4.0], dtype=F64)
    model = model_of(Net(), y=torch.tensor([1.0, -1.0, 2.0, 0.5], dtype=F64))
    guided = flowsolve.guided(model, {"y": torch.zeros(1, dtype=F64)}, scale=scales)
    how = (
        {"solver": solver, "seed": 3, "nfe": 8}
        if solver != "adaptive"
        else {"solver": solver, "seed": 3}
    )
    whole = flowsolve.sample(guided, **how)
    assert len(whole) == 4
    parts = flowsolve.sample(guided, batch_size=3, **how)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-12)
    second = flowsolve.sample(guided, first=1, n=2, **how)
    torch.testing.assert_close(second, whole[1:3], rtol=0, atol=1e-12)


def test_rescale_brings_the_deviation_back():
    model = model_of(Net(), y=2)
    x, level = states(4), PROCESSES["cosine"].level(0.5)
    plain = model.evaluate(x, level)
    guided = flowsolve.guided(model, {"y": 0}, scale=4.0).evaluate(x, level)
    full = flowsolve.guided(model, {"y": 0}, scale=4.0, rescale=1.0).evaluate(x, level)
    torch.testing.assert_close(full.std(1), plain.std(1), rtol=1e-12, atol=0)
    half = flowsolve.guided(model, {"y": 0}, scale=4.0, rescale=0.5).evaluate(x, level)
    torch.testing.assert_close(half, 0.5 * full + 0.5 * guided, rtol=1e-12, atol=1e-14)
    flat = flowsolve.Denoiser(lambda x, t, y: x * 0 + y, PROCESSES["cosine"], "v", (2,), dtype=F64)
    flat = flowsolve.guided(flat.given(y=2.0, per_sample=[]), {"y": 1.0}, scale=4.0, rescale=1.0)
    assert torch.equal(flat.evaluate(x, level), torch.full_like(x, 5.0))


@pytest.mark.parametrize("predicts", ["eps", "x0", "v", "flow"])
def test_apg_shortens_and_projects_on_x0(predicts):
    def net(x, t, y):
        return elementwise(x, t) + y

    process = PROCESSES["cosine"]
    model = flowsolve.Denoiser(net, process, predicts, (2,), dtype=F64).given(y=1.0, per_sample=[])
    x, level, r, eta, w = states(4), process.level(0.5), 0.2, 0.3, 5.0
    c, u = (m(x, level).x0 for m in (model, model.given(y=0.0)))
    gap = c - u
    gap = gap * (r / gap.norm(dim=1, keepdim=True)).clamp(max=1.0)
    unit = c / c.norm(dim=1, keepdim=True)
    parallel = (gap * unit).sum(1, keepdim=True) * unit
    want = c + (w - 1) * (gap - parallel + eta * parallel)
    got = flowsolve.guided(model, {"y": 0.0}, scale=w, project=(r, eta))(x, level).x0
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)
    plain = flowsolve.guided(model, {"y": 0.0}, scale=w)(x, level).x0
    same = flowsolve.guided(model, {"y": 0.0}, scale=w, project=(math.inf, 1.0))(x, level).x0
    torch.testing.assert_close(same, plain, rtol=0, atol=1e-12)


def test_cfg_pp_is_ddim_with_the_unconditional_noise():
    process = PROCESSES["vp"]
    (c, u), _ = gaussians(process)
    plan = flowsolve.plan("ddim", process, nfe=7)
    model = flowsolve.guided(c, other=u, scale=flowsolve.cfg_pp(plan, process, 0.6))
    start = states(3)
    got = flowsolve.sample(model, solver=plan, start=start)
    x = start
    for s, t in zip(plan.levels[:-1], plan.levels[1:], strict=True):
        one, two = c(x, s), u(x, s)
        eps = two.eps + 0.6 * (one.eps - two.eps)
        x0 = (x - s.R.value * eps) / s.A.value
        x = t.A.value * x0 + t.R.value * two.eps
    torch.testing.assert_close(got, x, rtol=0, atol=1e-10)
    with pytest.raises(ValueError, match="CFG\\+\\+ is defined for ddim alone"):
        flowsolve.cfg_pp(flowsolve.plan("ab2", process, nfe=7), process, 0.6)
    with pytest.raises(ValueError, match="solver=plan"):
        flowsolve.sample(model, solver="ddim", nfe=9)


def test_autoguidance_has_two_networks_and_their_conditions():
    good, bad = Net(), Net()
    y = torch.tensor([1.0, 2.0, 3.0], dtype=F64)
    one = model_of(good, y=y)
    two = flowsolve.Denoiser(bad, PROCESSES["cosine"], "v", (2,), dtype=F64)
    model = flowsolve.guided(one, other=two.given(y=0.5 * y, per_sample=["y"]), scale=2.0)
    x = flowsolve.sample(model, solver="ddim", nfe=4, seed=0)
    assert good.rows == bad.rows == [3] * 4
    parts = flowsolve.sample(model, solver="ddim", nfe=4, seed=0, batch_size=2)
    torch.testing.assert_close(parts, x, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", MATRIX_PROCESSES)
def test_the_digits_on_every_process(name):
    process = {"cld": "cld", "blurring": "blurring"}[name]
    for kind in (process, "cosine"):
        model = flowsolve.digits(3, process=kind)
        x = flowsolve.sample(flowsolve.guided(model, {"label": 10}, scale=2.0), nfe=4, n=2, seed=0)
        null = flowsolve.sample(
            flowsolve.guided(model, {"label": None}, scale=2.0), nfe=4, n=2, seed=0
        )
        torch.testing.assert_close(x, null, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="rescale"):
        model = flowsolve.digits(3, process=process)
        flowsolve.guided(model, {"label": 10}, scale=2.0, rescale=0.5)


def test_guidance_of_a_guided_model():
    model = model_of(Net(), y=torch.tensor([1.0, 2.0], dtype=F64))
    once = flowsolve.guided(model, {"y": torch.zeros(1, dtype=F64)}, scale=2.0)
    twice = flowsolve.guided(once, {"y": torch.zeros(1, dtype=F64)}, scale=2.0)
    x, level = states(2), PROCESSES["cosine"].level(0.5)
    # w = 2 around w = 2: of the outer difference only the told part is left.
    a, zero = once.evaluate(x, level), model.given(y=torch.zeros(2, dtype=F64)).evaluate(x, level)
    torch.testing.assert_close(twice.evaluate(x, level), 2 * a - zero, rtol=0, atol=1e-13)


def scale_of(level):
    return 1.0 + level.sigma


def test_it_travels_and_is_a_denoiser_in_full():
    model = flowsolve.guided(model_of(Net(), y=2), {"y": 0}, scale=scale_of, interval=(0.1, 5.0))
    how = {"nfe": 6, "n": 3, "seed": 0}
    x = flowsolve.sample(model, **how)
    assert torch.equal(flowsolve.sample(pickle.loads(pickle.dumps(model)), **how), x)
    assert not torch.equal(flowsolve.sample(model.given(y=3), **how), x)
    clipped = replace(model, correct_x0=flowsolve.clip(-0.1, 0.1))
    held = flowsolve.sample(clipped, solver="ddim", **how)  # auto's end goes beyond the last x0
    assert float(held.abs().max()) <= 0.1 + 1e-12
    inside = flowsolve.guided(
        replace(model_of(Net(), y=2), correct_x0=flowsolve.clip()), {"y": 0}, scale=2.0
    )
    assert flowsolve.sample(inside, **how).isfinite().all()
    assert flowsolve.compare(model, solvers=("ddim",), nfe=(3,), n=2).finished == 1
    with pytest.raises(ValueError, match="Guided changes what its network returns"):
        flowsolve.plan("ddim", model.process, nfe=3).push(model, start=states(2))


def test_gradients_reach_start_and_scales():
    scales = torch.tensor([1.5, 2.0], dtype=F64, requires_grad=True)
    start = states(2).requires_grad_()

    def end(start, scales):
        model = model_of(Net(), y=torch.tensor([1.0, 2.0], dtype=F64))
        guided = flowsolve.guided(model, {"y": torch.zeros(1, dtype=F64)}, scale=scales)
        return flowsolve.sample(guided, solver="ddim", nfe=3, start=start, differentiable=True)

    assert torch.autograd.gradcheck(end, (start, scales))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unconditional": None}, "none: expected one of unconditional="),
        ({"classifier": lambda x, level: x.sum(1)}, "unconditional, classifier: expected one of"),
        ({"unconditional": {"z": 0}}, "unconditional: the model is not given 'z', but y"),
        ({"scale": "2"}, "scale='2': expected a number, a tensor"),
        ({"scale": float("nan")}, "scale=nan: expected a number from -1e6"),
        ({"scale": torch.tensor([1.0, math.inf])}, "scale=.*finite floating-point numbers"),
        ({"interval": (2.0, 1.0)}, "interval=.*low < high"),
        ({"rescale": 1.5}, "rescale=1.5: expected a number from 0 to 1"),
        ({"project": (0.0, 1.0)}, r"project\[0\]=0.0: expected a positive number"),
    ],
)
def test_what_cannot_be_is_refused_by_name(change, message):
    model = model_of(Net(), y=2)
    with pytest.raises((TypeError, ValueError), match=message):
        flowsolve.guided(model, **{"unconditional": {"y": 0}, "scale": 2.0, **change})


def test_what_is_wrong_in_a_run_is_said():
    model = model_of(Net(), y=2)
    (_, other), _ = gaussians(PROCESSES["rf"])
    with pytest.raises(ValueError, match="other: a model of RectifiedFlow"):
        flowsolve.guided(model, other=other, scale=2.0)
    wrong = flowsolve.guided(model, classifier=lambda x, level: x, scale=2.0)
    with pytest.raises(ValueError, match=r"classifier: it gave .*; expected ln p\(y\|x\)"):
        flowsolve.sample(wrong, nfe=2, n=2)
    scales = flowsolve.guided(model, {"y": 0}, scale=torch.ones(2))
    with pytest.raises(ValueError, match=r"guidance 0.scale.*: 2 rows for the samples 0 to 4"):
        flowsolve.sample(scales, nfe=2, n=5)
    bad = flowsolve.guided(model, {"y": 0}, scale=lambda level: None)
    with pytest.raises(TypeError, match="scale=None: expected a number from"):
        flowsolve.sample(bad, nfe=2, n=1)
