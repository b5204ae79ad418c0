"""The boundary with the user's network: whatever it does is right, or refused in one sentence."""

from __future__ import annotations

import copy
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from problems import F64, MATRIX_PROCESSES, PROCESSES, elementwise
from torch import nn

import flowsolve
from flowsolve import exact

#: A process of every kind, with a shape for it.
KINDS = {
    "vp": (PROCESSES["vp"], (3,)),
    "edm": (PROCESSES["edm"], (3,)),
    "rectified_flow": (PROCESSES["rectified_flow"], (3,)),
    "cld": (MATRIX_PROCESSES["cld"], (2,)),
    "blurring": (MATRIX_PROCESSES["blurring"], (1, 2, 3)),
}
kinds = pytest.mark.parametrize("kind", KINDS)
#: Rows of every family that draw and that do not; what is given to the network differs.
ROWS = ("ddim", "heun", "unipc3", "auto", "ddpm", "adaptive", "torchdiffeq:rk4", "scipy:RK45")


def target(kind):
    """What networks of the kind predict here: half of them the state itself is lent to."""
    return {"edm": "F", "rectified_flow": "velocity"}.get(kind, "eps")


def smooth(x, t):
    return torch.tanh(x) * (0.2 + 0.1 * torch.cos(t.to(x).view(-1, *[1] * (x.ndim - 1))))


def run(net, kind, solver, start, **options):
    process, shape = KINDS[kind]
    model = flowsolve.Denoiser(net, process, target(kind), shape, **options)
    tolerances = {"rtol": 1e-2, "atol": 1e-2} if solver in ("adaptive", "scipy:RK45") else {}
    nfe = None if tolerances else 12
    return flowsolve.sample(model, solver=solver, nfe=nfe, start=start, seed=0, **tolerances)


def start_for(kind, n=3, dtype=F64):
    process, shape = KINDS[kind]
    z = torch.randn(n, *process.state_shape(shape), dtype=dtype)
    return process.prior(process.start) @ z.double()


@kinds
@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("solver", ROWS)
def test_a_network_may_work_in_place(kind, inference, solver):
    """It is lent a copy: the run is that of the same network on a copy, the caller's start and the
    times of later evaluations are as they were."""

    def dirty(x, t):
        out = smooth(x, t)
        x.mul_(0.5).clamp_(max=0.1)
        t.zero_()
        return out

    if solver in ("adaptive", "auto") and not KINDS[kind][0].scalar:
        solver = "unipc3"
    start = start_for(kind)
    before = start.clone()
    with torch.inference_mode(inference):
        clean, changed = (run(net, kind, solver, start) for net in (smooth, dirty))
    assert torch.equal(clean, changed) and torch.equal(start, before)


def test_a_network_may_return_its_input_or_a_buffer_of_its_own():
    def same(x, t):
        return x.mul_(0.1)

    buffer = torch.empty(0)

    def reused(x, t):
        buffer.resize_(x.shape).copy_(0.1 * x)
        return buffer

    start = start_for("vp").float()
    want = run(lambda x, t: 0.1 * x, "vp", "unipc3", start)
    for net in (same, reused):
        assert torch.equal(run(net, "vp", "unipc3", start), want)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda out: SimpleNamespace(sample=out),
        lambda out: (out,),
        lambda out: [out],
        lambda out: (SimpleNamespace(sample=out),),
    ],
)
def test_outputs_with_a_sample_and_tuples_of_one_are_taken(wrap):
    start = start_for("vp")
    want = run(smooth, "vp", "unipc3", start)
    assert torch.equal(run(lambda x, t: wrap(smooth(x, t)), "vp", "unipc3", start), want)


@pytest.mark.parametrize(
    ("net", "error", "message"),
    [
        (lambda x, t: (x, t), TypeError, "returned tuple; expected a tensor of shape"),
        (lambda x, t: {"sample": x}, TypeError, "returned dict"),
        (lambda x, t: SimpleNamespace(sample=lambda: x), TypeError, "returned SimpleNamespace"),
        (lambda x, t: None, TypeError, "returned NoneType"),
        (lambda x, t: x.to(torch.complex64), TypeError, "complex64; expected real"),
        (lambda x, t: x > 0, TypeError, "torch.bool; expected real floating-point"),
        (lambda x, t: x.to("meta"), ValueError, "on meta for a state on cpu; give device="),
        (lambda x, t: x[:1], ValueError, r"shape \(1, 3\) for a state of shape \(3, 3\)"),
        (lambda x, t: torch.cat([x, x], 1), ValueError, 'variance="learned_range" says so'),
    ],
)
def test_what_cannot_be_an_output_is_refused(net, error, message):
    with pytest.raises(error, match=f"the network .*{message}"):
        run(net, "vp", "ddim", start_for("vp"))


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("correct", [None, flowsolve.clip(-3.0, 3.0)])
@pytest.mark.parametrize("kind", ["vp", "blurring"])
def test_half_precision_meets_the_coefficients_in_the_state_s(half, correct, kind):
    """A network whose input and output are rounded, and nothing else: to the bit the same as
    rounding them inside. Beside pure noise its x̂0 is large, and overflows in float16."""

    def inside(x, t):
        return smooth(x.to(half).float(), t).to(half).float()

    start = start_for(kind).float()
    options = {"correct_x0": correct}
    want = run(inside, kind, "unipc3", start, dtype=torch.float32, **options)
    outside = run(
        lambda x, t: smooth(x.float(), t).to(half), kind, "unipc3", start, dtype=half, **options
    )
    assert torch.equal(outside, want) and want.isfinite().all()


class Linear(nn.Module):
    """A network with a layer for its time."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.x, self.t = nn.Linear(3, 3), nn.Linear(1, 3)
        for p in self.parameters():
            p.data.normal_(0, 0.2, generator=generator)
        self.eval()

    def forward(self, x, t):
        return self.x(x) + self.t(t[:, None])


def model_of(net, **options):
    return flowsolve.Denoiser(net, PROCESSES["rectified_flow"], "velocity", (3,), **options)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_networks_with_a_time_layer(half):
    net = Linear()
    want = flowsolve.sample(model_of(net), nfe=10, n=4, seed=0)
    halved = copy.deepcopy(net).to(half)
    with pytest.raises(TypeError, match=r"in (b?float16) and times in float32.*time_dtype="):
        flowsolve.sample(model_of(halved), nfe=10, n=4, seed=0)
    got = flowsolve.sample(model_of(halved, time_dtype=half), nfe=10, n=4, seed=0)
    # Each of ten evaluations errs by a few roundings of numbers of size one.
    assert got.dtype == torch.float32 and (got - want).abs().max() < 10 * torch.finfo(half).eps


def test_the_network_s_dtype_is_what_it_is_when_it_runs():
    net = Linear()
    model = model_of(net)
    single = flowsolve.sample(model, nfe=5, n=2, seed=0)
    net.double()
    double = flowsolve.sample(model, nfe=5, n=2, seed=0)
    assert double.dtype == F64 and (single - double).abs().max() < 1e-5


class Table(nn.Module):
    """A network with an embedding for its time."""

    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(1000, 3)
        self.e.weight.data.normal_(generator=torch.Generator().manual_seed(0))
        self.eval()

    def forward(self, x, t):
        return 0.1 * x + self.e(t)


def test_integer_times():
    net, process = Table(), PROCESSES["discrete"]

    def by_hand(x, t):
        return 0.1 * x + net.e.weight[t.round().long()]

    want = flowsolve.sample(
        flowsolve.Denoiser(by_hand, process, "eps", (3,)), solver="ddim", nfe=5, n=2, seed=0
    )
    with pytest.raises(TypeError, match=r"time=lambda level: round\(level.t\)"):
        flowsolve.sample(flowsolve.Denoiser(net, process, "eps", (3,)), nfe=5)
    for options in ({"time": lambda level: round(level.t)}, {"time_dtype": torch.int64}):
        model = flowsolve.Denoiser(net, process, "eps", (3,), **options)
        assert torch.equal(flowsolve.sample(model, solver="ddim", nfe=5, n=2, seed=0), want)


def test_wrappers_that_hide_where_the_network_is():
    class Away(nn.Module):
        """All its parameters elsewhere: they are brought when they are used."""

        def __init__(self):
            super().__init__()
            self.away = nn.Parameter(torch.ones(3, device="meta"))
            self.eval()

        def forward(self, x, t):
            return 0.1 * x

    assert model_of(Away()).device is None
    assert flowsolve.sample(model_of(Away()), nfe=3, seed=0).isfinite().all()
    net = Away()
    net.here = nn.Parameter(torch.ones(3, dtype=F64))
    assert model_of(net).device == torch.device("cpu") and model_of(net).net_dtype == F64
    hidden = nn.Linear(3, 3, device="meta").eval()
    with pytest.raises(ValueError, match=r"given a state on cpu and could not use it.*device="):
        flowsolve.sample(model_of(lambda x, t: hidden(x)), nfe=3, seed=0)


def test_errors_of_the_network_s_own_pass_through():
    def broken(x, t):
        raise KeyError("my own")

    with pytest.raises(KeyError, match="my own"):
        flowsolve.sample(model_of(broken), nfe=3)
    wide = nn.Linear(5, 3).eval()
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        flowsolve.sample(model_of(lambda x, t: wide(x)), n=2)


def test_a_module_in_training_mode_warns_once():
    net = nn.Sequential(nn.Dropout(0.5))

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x, t):
            return self.net(x)

    wrapped = Wrapped()
    model = model_of(wrapped)
    with pytest.warns(UserWarning, match=r"training mode.*net.eval\(\)") as caught:
        flowsolve.sample(model, nfe=3, seed=0)
    assert len(caught) == 1 and caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flowsolve.sample(model, nfe=3, seed=0)
        wrapped.eval()
        a, b = (flowsolve.sample(model, nfe=3, seed=0) for _ in range(2))
        flowsolve.encode(model_of(Wrapped().eval()), a, nfe=3)
    assert torch.equal(a, b)


@kinds
def test_a_shape_may_be_left_out(kind):
    process, shape = KINDS[kind]
    model, named = (
        flowsolve.Denoiser(smooth, process, target(kind), given) for given in (None, shape)
    )
    start = start_for(kind)
    x, want = (flowsolve.sample(m, solver="ab3", nfe=6, start=start) for m in (model, named))
    assert torch.equal(x, want)
    up = {"solver": "ab2", "nfe": 6, "span": (0.9 * process.t_max, None)}
    assert torch.equal(*(flowsolve.encode(m, x, **up) for m in (model, named)))
    with pytest.raises(ValueError, match=r"shape=None: expected a start=.*Denoiser\(shape="):
        flowsolve.sample(model, nfe=3)
    if kind in ("vp", "edm", "rectified_flow"):
        for other in ((5,), (2, 4), (1, 3, 2, 2)):
            assert flowsolve.sample(model, nfe=3, start=torch.ones(2, *other)).shape == (2, *other)
    with pytest.raises(ValueError, match=r"start has shape \(3,\); expected \(n, \*shape\)"):
        flowsolve.sample(model, start=torch.ones(3))


@pytest.mark.parametrize("value", [lambda x, level: x[:1], lambda x, level: x + 0j, lambda *_: 1])
def test_corrections_keep_shape_and_kind(value):
    model = flowsolve.Denoiser(smooth, PROCESSES["vp"], "eps", (3,), correct_x0=value)
    with pytest.raises(ValueError, match=r"correct_x0 returned .*expected a floating-point tensor"):
        flowsolve.sample(model, nfe=3, n=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": torch.int32}, r"dtype=torch.int32: expected a floating-point torch.dtype"),
        ({"dtype": "float32"}, r"dtype='float32': expected a floating-point torch.dtype"),
        ({"time_dtype": torch.bool}, r"time_dtype=torch.bool: expected a torch.dtype of real"),
        ({"time": 5}, r"time=5: expected a string, a function or None"),
        ({"correct_x0": 5}, r"correct_x0=5: expected a function or None"),
        ({"conditioning": 5}, r"conditioning=5: expected a dictionary"),
        ({"shape": "12"}, r"shape='12': expected the shape of one sample"),
        ({"shape": (3.7,)}, r"shape\[0\]=3.7: expected a positive integer"),
        ({"variance": "learned"}, r"variance='learned' is not known. Did you mean 'learned_range'"),
        ({"per_sample": ["y"]}, r"per_sample: there is no 'y' in the conditioning; it has nothing"),
        ({"per_sample": "y"}, r"per_sample='y': expected a sequence, each a string"),
        ({"net": None}, r"net=None: expected a network called as net\(x, time"),
        ({"predict": "eps"}, r"argument='predict' is not known. Did you mean 'predicts'"),
    ],
)
def test_denoisers_that_cannot_be(arguments, message):
    good = {"net": smooth, "process": PROCESSES["vp"], "predicts": "eps", "shape": (3,)}
    with pytest.raises((TypeError, ValueError), match=message):
        flowsolve.Denoiser(**{**good, **arguments})


#: Conditioning with a row for each of eight samples, how the network reads a number for each of
#: them, and the paths of what has rows.
ROWS_OF_8 = torch.arange(8.0)
CONDITIONING = {
    "tensor": (ROWS_OF_8, lambda v: v),
    "array": (ROWS_OF_8.numpy(), torch.as_tensor),
    "list": (list(range(8)), lambda v: torch.tensor(v, dtype=torch.float32)),
    "dictionary": ({"text": ROWS_OF_8[:, None]}, lambda v: v["text"][:, 0]),
    "tuple": ((ROWS_OF_8[:, None],), lambda v: v[0][:, 0]),
    "nested": ({"a": [{"b": ROWS_OF_8}, ROWS_OF_8]}, lambda v: v["a"][0]["b"] + 0 * v["a"][1]),
}


@pytest.mark.parametrize("how", CONDITIONING)
def test_rows_of_conditioning_follow_their_samples(how):
    """Through batches, the numbers of a part of a run, and steps of each sample's own."""
    value, read = CONDITIONING[how]

    def net(x, t, cond, shared):
        assert shared.shape == (8, 2)  # as many rows as there are samples, and none of them theirs
        return 0 * x + read(cond)[:, None] + shared.sum()

    model = flowsolve.Denoiser(net, PROCESSES["vp"], "x0", (3,))
    model = model.given(cond=value, shared=torch.ones(8, 2), per_sample=["cond"])
    whole = flowsolve.sample(model, seed=0, nfe=3)  # as many samples as there are rows
    assert torch.allclose(whole, (16 + ROWS_OF_8)[:, None].expand(8, 3), atol=1e-4)
    assert torch.equal(whole, flowsolve.sample(model, n=8, seed=0, nfe=3, batch_size=3))
    assert torch.equal(whole[5:7], flowsolve.sample(model, n=2, first=5, seed=0, nfe=3))
    assert torch.equal(whole[5:], flowsolve.sample(model, first=5, seed=0, nfe=3, batch_size=2))
    assert torch.allclose(whole, flowsolve.sample(model, seed=0, solver="adaptive"), atol=1e-4)
    with pytest.raises(ValueError, match="cond: 8 rows for the samples 6 to 8"):
        flowsolve.sample(model, n=3, first=6)


def test_rows_that_nobody_declared():
    def net(x, t, y):
        return 0 * x + y[: len(x), None]

    bare = flowsolve.Denoiser(net, PROCESSES["vp"], "x0", (3,))
    model = bare.given(y=ROWS_OF_8)
    whole = flowsolve.sample(model, n=8, seed=0, nfe=3)
    for arguments in ({"n": 8, "batch_size": 4}, {"n": 3, "first": 5}):
        with pytest.raises(
            ValueError, match=r"^y may have a row for each sample.*per_sample=\['y'"
        ):
            flowsolve.sample(model, seed=0, nfe=3, **arguments)
    # Nothing has to be cut: of other lengths, for all alike, of one number.
    for y in (torch.ones(5), torch.tensor(3.0).expand(4)):
        flowsolve.sample(bare.given(y=y), n=8, seed=0, nfe=3, batch_size=4)
    shared = bare.given(y=ROWS_OF_8, per_sample=[])
    parts = flowsolve.sample(shared, n=8, seed=0, nfe=3, batch_size=4)
    assert torch.allclose(parts[4:], whole[:4], atol=1e-4)  # each part sees the first rows
    with pytest.raises(ValueError, match=r"there is no 'yy' in the conditioning; it has y"):
        bare.given(y=ROWS_OF_8, per_sample=["yy"])
    with pytest.raises(ValueError, match=r"expected as many rows in each value.*y 8, z 7"):
        flowsolve.sample(bare.given(y=ROWS_OF_8, z=ROWS_OF_8[:7], per_sample=["y", "z"]))


def test_a_path_declares_one_part():
    def net(x, t, added):
        assert len(added["tokens"]) == 4
        return 0 * x + added["text"][:, None]

    model = flowsolve.Denoiser(net, PROCESSES["vp"], "x0", (3,))
    added = {"text": torch.arange(4.0), "tokens": torch.ones(4, 2)}
    model = model.given(added=added, per_sample=["added.text"])
    whole = flowsolve.sample(model, n=4, seed=0, nfe=3)
    assert torch.equal(whole, flowsolve.sample(model, n=4, seed=0, nfe=3, batch_size=1))


@pytest.mark.parametrize("close", [True, False])
def test_a_function_s_own_rows_stay_with_their_samples(close):
    """Steps of each sample's own ask for all rows of what may hold rows of its own."""
    scale = 1.0 + torch.arange(6.0)[:, None]

    def net(x, t, y=None):
        return elementwise(x * (scale if close else y), t)

    model = flowsolve.Denoiser(net, PROCESSES["vp"], "eps", (3,))
    if not close:
        model = model.given(y=scale)
    start = torch.randn(6, 3, dtype=F64)
    whole = flowsolve.sample(model, solver="adaptive", start=start)
    for i in range(6):
        alone = flowsolve.Denoiser(
            lambda x, t, i=i: elementwise(x * scale[i], t), PROCESSES["vp"], "eps", (3,)
        )
        one = flowsolve.sample(alone, solver="adaptive", start=start[i : i + 1])
        torch.testing.assert_close(whole[i : i + 1], one, rtol=0, atol=1e-9)


def test_complex_states_are_refused():
    z = torch.randn(3, 4, dtype=torch.complex64)
    with pytest.raises(
        TypeError, match=r"start is a tensor of torch\.complex64; expected a floating"
    ):
        flowsolve.sample(flowsolve.Denoiser(smooth, PROCESSES["vp"], "eps", (4,)), start=z)


def test_numbers_of_other_libraries():
    model = exact.Gaussian(PROCESSES["vp"], [1.0, -2.0], 0.3)
    plain = flowsolve.sample(model, n=4, nfe=5, seed=0, first=1, batch_size=2, span=(0.5, None))
    other = flowsolve.sample(
        model,
        n=np.int64(4),
        nfe=torch.tensor(5),
        seed=0,
        first=np.uint8(1),
        batch_size=np.int32(2),
        span=(np.float32(0.5), None),
    )
    assert torch.equal(plain, other)


@pytest.mark.parametrize("solver", ["ddim", "unipc3", "heun", "ddpm", "auto"])
def test_vmap_over_a_run(solver):
    """Fixed steps ask nothing of the numbers, so that a run may be mapped and differentiated."""
    model = flowsolve.Denoiser(smooth, PROCESSES["vp"], "eps", (3,))

    def one(z, differentiable=False):
        return flowsolve.sample(
            model, solver=solver, nfe=6, start=z[None], seed=0, differentiable=differentiable
        )[0]

    z = torch.randn(4, 3, dtype=F64)
    want = torch.stack([one(each) for each in z])
    torch.testing.assert_close(torch.func.vmap(one)(z), want, rtol=1e-12, atol=1e-12)
    slopes = torch.func.vmap(torch.func.jacrev(lambda z: one(z, True)))(z)
    step = 1e-6 * torch.eye(3, dtype=F64)
    there = [(one(z[0] + e) - one(z[0] - e)) / 2e-6 for e in step]
    torch.testing.assert_close(slopes[0], torch.stack(there, 1), rtol=1e-5, atol=1e-5)


#: A short table, so that every entry is a step.
SHORT = flowsolve.VP.discrete(np.linspace(1e-3, 0.2, 50).tolist())


def learned(process, v, variance=0.3):
    """A network that is exact for data N(0, variance) and learned ``v``."""

    def net(x, t):
        each = [process.level(float(s)) for s in t]
        a, r = (
            torch.tensor([[float(c)] for c in pair], dtype=x.dtype)
            for pair in ([e.A.value for e in each], [e.R.value for e in each])
        )
        return torch.cat([r / (a * a * variance + r * r) * x, torch.full_like(x, v)], 1)

    return flowsolve.Denoiser(net, process, "eps", (1,), variance="learned_range")


@pytest.mark.parametrize("v", [-1.0, -0.4, 0.5, 1.0])
@pytest.mark.parametrize(("nfe", "eta"), [(50, 1.0), (10, 1.0), (10, 0.5)])
def test_a_learned_variance(v, nfe, eta):
    """The step's noise has variance β^f β̃^(1−f), f = (v + 1)/2, written with the β of the step
    (arXiv 2102.09672, eq. 15), times η². A run is linear, so its two parts are seen alone."""
    model = learned(SHORT, v)
    options = {"solver": "ddim", "eta": eta, "nfe": nfe, "grid": "trailing"}
    plan = flowsolve.plan(process=SHORT, **options)
    start, spread, mean = torch.zeros(1, 1, dtype=F64), 0.0, 1.0
    for s, t in zip(plan.levels, plan.levels[1:-1], strict=False):
        (a, r), (b, q) = ((level.A.value, level.R.value) for level in (s, t))
        beta = 1.0 - (a / b) ** 2
        posterior = beta * q * q / (r * r)
        noise = eta**2 * posterior ** (0.5 - 0.5 * v) * beta ** (0.5 + 0.5 * v)
        m = a * a * 0.3 + r * r
        keep = b * a * 0.3 / m + np.sqrt(q * q - eta**2 * posterior) * r / m
        spread = keep * keep * spread + noise
        mean *= keep
    last = plan.levels[-2]
    end = last.A.value * 0.3 / (last.A.value**2 * 0.3 + last.R.value**2)
    # Of unit noise in one draw and none in the others: the squares of what comes out are summed.
    total = 0.0
    for k in range(plan.draws):
        noise = torch.zeros(plan.draws, 1, 1, dtype=F64)
        noise[k] = 1.0
        total += float(flowsolve.sample(model, start=start, noise=noise, **options)) ** 2
    assert total == pytest.approx(end * end * spread, rel=1e-12)
    quiet = torch.zeros(plan.draws, 1, 1, dtype=F64)
    carried = flowsolve.sample(model, start=start + 1.0, noise=quiet, **options)
    assert float(carried) == pytest.approx(end * mean, rel=1e-12)


def test_who_uses_a_learned_variance():
    plain = flowsolve.Denoiser(
        lambda x, t: learned(SHORT, 0.5).net(x, t)[:, :1], SHORT, "eps", (1,)
    )
    model, common = learned(SHORT, 0.5), {"nfe": 10, "n": 3, "seed": 0}
    for solver in ("ddim", "unipc3", "heun"):  # no noise, no variance, nothing said
        a, b = (flowsolve.sample(m, solver=solver, **common) for m in (model, plain))
        assert torch.equal(a, b)
    for solver in ("ddpm", "euler_a"):
        a, b = (flowsolve.sample(m, solver=solver, **common) for m in (model, plain))
        assert not torch.allclose(a, b)
    for solver in ("dpmpp2m_sde", "sa", "dpm2_a", "edm", "ddpm_large", "lcm", "euler_maruyama"):
        with pytest.warns(UserWarning, match="variance='learned_range' is ignored"):
            a = flowsolve.sample(model, solver=solver, **common)
        assert torch.equal(a, flowsolve.sample(plain, solver=solver, **common))
    process, shape = KINDS["blurring"]
    with pytest.raises(ValueError, match=r"variance='learned_range': A and R .* are matrices"):
        flowsolve.Denoiser(smooth, process, "eps", shape, variance="learned_range")
    with pytest.raises(ValueError, match=r"expected twice its channels, as variance"):
        flowsolve.sample(flowsolve.Denoiser(smooth, SHORT, "eps", (1,), variance="learned_range"))


#: What has one evaluation and one draw a step, and whether that is DDIM with one η ≤ 1.
ANCESTRAL = [
    ("ddim", {"eta": 0.5}, True),
    ("ddpm", {}, True),
    ("gddim", {}, True),  # λ = 1 is the posterior's noise
    ("gddim", {"lam": 0.5}, False),
    ("ddpm_large", {}, False),
    ("er_sde1", {}, False),
    ("lcm", {}, False),
    ("euler_maruyama", {}, False),
]


@pytest.mark.parametrize("process", ["vp", "cosine", "discrete", "edm", "rectified_flow"])
@pytest.mark.parametrize(("solver", "options", "is_one"), ANCESTRAL)
def test_which_plans_are_ancestral(solver, options, is_one, process, tmp_path):
    """Read off the numbers, so that a plan from a file is known too; with the levels of the step in
    the ratio."""
    plan = flowsolve.plan(solver, PROCESSES[process], nfe=12, **options)
    plan.save(tmp_path / "plan.json")
    for each in (plan, flowsolve.Plan.load(tmp_path / "plan.json")):
        found = each.program.ancestral
        assert (found is not None) == is_one
        if found is not None:
            pairs = zip(plan.levels, plan.levels[1:-1], strict=False)
            want = [s.R.value / t.R.value for s, t in pairs][-len(found) :]
            assert list(found.values()) == want and len(found) == plan.draws
    assert flowsolve.plan("unipc3", PROCESSES[process], nfe=12).program.ancestral == {}


def test_a_learned_variance_where_the_caller_has_the_loop():
    model = learned(SHORT, 0.5)
    plan = flowsolve.plan("ddpm", SHORT, nfe=10)
    start = torch.randn(3, 1, dtype=F64)
    run = plan.push(model, start=start, seed=0)
    while not run.done:
        run.tell(model.net(run.input, run.time))
    assert torch.equal(run.x, flowsolve.sample(model, solver=plan, start=start, seed=0))


def test_a_mistake_of_the_networks_own_is_told_as_it_is():
    table = [1.0]

    def net(x, t):
        return x * table["first"]  # type: ignore[call-overload]

    model = flowsolve.Denoiser(net, flowsolve.VP(), "eps", (3,))
    with pytest.raises(TypeError, match=r"^list indices must be integers"):
        flowsolve.sample(model, nfe=2)
