"""Sample i's noise is a function of (seed, i) and of the place in the run; the words are Philox's,
the numbers normal, the same everywhere."""

import hashlib
import math
import struct
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from problems import FIXED, elementwise
from scipy import special, stats
from torch.utils._python_dispatch import TorchDispatchMode

import flowsolve
from flowsolve import philox, quantile
from flowsolve.noise import Place, Stream, normal

MODEL = flowsolve.Denoiser(elementwise, flowsolve.VP(), "eps", (2, 3))
CPU = torch.device("cpu")
WORD = st.integers(0, 2**64 - 1)


@given(seed=WORD, cut=st.integers(1, 6), draw=st.integers(0, 3))
def test_any_split_of_the_batch_is_the_same_noise(seed, cut, draw):
    whole = normal(seed, range(7), draw, (3, 5), torch.float32, None)
    parts = [
        normal(seed, r, draw, (3, 5), torch.float32, None) for r in (range(cut), range(cut, 7))
    ]
    assert torch.equal(whole, torch.cat(parts))


# Random123's known answers, kat_vectors: counter, key, block.
KNOWN = [
    ([0] * 4, [0] * 2, "16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b"),
    ([-1] * 4, [-1] * 2, "87b092c3013fe90b 438c3c67be8d0224 9cc7d7c69cd777b6 a09caebf594f0ba0"),
    (
        [0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89],
        [0x452821E638D01377, 0xBE5466CF34E90C6C],
        "a528f45403e61d95 38c72dbd566e9788 a5a1610e72fd18b5 57bd43b5e52b7fe6",
    ),
]


@pytest.mark.parametrize(("counter", "key", "block"), KNOWN)
def test_words_are_philox(counter, key, block):
    c0, *rest = (word % 2**64 for word in counter)
    keys = tuple(word % 2**64 for word in key)
    expected = [int(word, 16) for word in block.split()]
    tensors = philox.Parallel(keys, 1, CPU).words(rest, range(philox.signed(c0), c0 + 1)[:1])
    assert [word % 2**64 for word in tensors[0].tolist()] == expected
    # NumPy counts up before its first block, into the higher words as well.
    before = (sum(word << 64 * k for k, word in enumerate((c0, *rest))) - 1) % 2**256
    bits = np.random.Philox(key=sum(word << 64 * k for k, word in enumerate(keys)), counter=before)
    assert bits.random_raw(4).tolist() == expected


@given(
    seed=WORD,
    first=st.integers(0, 2**64 - 9),
    counter=st.tuples(WORD, WORD, WORD),
    n=st.integers(1, 8),
    blocks=st.integers(1, 5),
)
def test_words_of_tensors_are_numpys(seed, first, counter, n, blocks):
    serial, samples = philox.Serial(), range(first, first + n)
    one = np.stack([serial.words((seed, i), counter, 4 * blocks) for i in samples])
    indices = torch.arange(n) + philox.signed(first)
    other = philox.Parallel((seed, indices), n, CPU).words(counter, range(1, 1 + blocks))
    assert np.array_equal(one, other.numpy())
    assert np.array_equal(
        np.concatenate([serial.more(3), serial.more(2)]), serial_tail(seed, one, samples, counter)
    )


def serial_tail(seed, one, samples, counter):
    """Five words after those."""
    again = philox.Serial().words((seed, samples[-1]), counter, one.shape[1] + 5)
    return again[-5:]


@pytest.mark.parametrize(
    ("n", "shape"),
    [(1, ()), (3, (1,)), (600, (2,)), (700, (17,)), (2, (3, 2**14)), (9, (3000,)), (4, (0,))],
)
@pytest.mark.parametrize("seeds", [False, True])
def test_both_ways_to_the_words_give_the_same_numbers(n, shape, seeds):
    seed = [7 * k + 2**63 for k in range(n)] if seeds else 2**64 - 1
    stream = Stream(seed, range(5, 5 + n), shape, torch.float32, None)
    out = stream.at(Place(0.25, 1))
    counter, size = (1, *struct.unpack("<Q", struct.pack("<d", 0.25)), 1), math.prod(shape)
    assert out.shape == (n, *shape)
    assert np.array_equal(out.view(n, size).numpy(), stream._in_turn(counter, n, size))
    for most in (2 + n * size // 36, 2**20):  # in pieces and in one
        assert torch.equal(out.view(n, size), stream._at_once(counter, n, size, most))


class Touched(TorchDispatchMode):
    """Counts operations, and refuses one that brings something from the CPU."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        flat = torch.utils._pytree.tree_leaves((args, kwargs))
        assert not any(isinstance(x, torch.Tensor) and x.device.type == "cpu" for x in flat), (
            function
        )
        return function(*args, **(kwargs or {}))


def test_nothing_is_looped_over_or_copied_on_another_device():
    counts = []
    for n in (2, 2000):
        stream = Stream(list(range(n)), range(n), (3, 5), torch.float32, torch.device("meta"))
        draw = stream.along([Place(1.0, 0), Place(0.5, 0)])
        with Touched() as touched:
            assert draw(1).device.type == "meta"
        counts.append(touched.count)
    assert counts[0] == counts[1] < 500


# Of seed 11, samples 3 and 2⁴⁰, draw 2, and at time 0.7, third draw: what they are for ever.
VALUES = {
    "few": [
        [-0.496511310338974, 0.7251312732696533, -0.7317110896110535, 1.4444198608398438],
        [0.9821094870567322, 1.3505473136901855, -0.058962978422641754, 1.3097995519638062],
        [0.38464581966400146, -0.5121914148330688, 0.7638958096504211, 0.36910346150398254],
    ],
    "many": "7cac27fa2c83a86eb41d01e16eed18fcbf73310c7ad073f3bcd740489317e8b1",
    "table": "aee76232d68686c1c93874ca4231a055822430940114f20ee866c0ac412a937f",
}


def test_values_are_what_they_were():
    drawn = [normal(11, range(i, i + 1), 2, (4,), torch.float32, None)[0] for i in (3, 2**40)]
    placed = Stream([2**64 - 1], range(9, 10), (4,), torch.float32, None).at(Place(0.7, 2))[0]
    assert [x.tolist() for x in (*drawn, placed)] == VALUES["few"]
    many = normal(0, range(40), 1, (700,), torch.float32, None).numpy()
    assert hashlib.sha256(many.tobytes()).hexdigest() == VALUES["many"]
    assert hashlib.sha256(quantile.table().tobytes()).hexdigest() == VALUES["table"]


def extreme_words() -> np.ndarray:
    """Words at the ends and where intervals meet, of both signs, and ordinary ones."""
    v = [2**k + j for k in range(54) for j in (-1, 0, 1)]
    v = np.array([*v, *(-one - 1 for one in v)], dtype=np.int64).clip(-(2**53), 2**53 - 1)
    return np.concatenate([v << 10, np.random.default_rng(0).integers(-(2**63), 2**63, 20000)])


def test_numbers_are_the_inverse_distribution_function():
    words = extreme_words()
    f = np.float32(words >> 10) + np.float32(0.5)
    exact = np.copysign(-special.ndtri(np.abs(f).astype(float) * 2.0**-54), f)
    z = quantile.normal_here(words)
    assert z.dtype == np.float32 and np.isfinite(z).all() and 8.3 < np.abs(z).max() < 8.4
    assert (np.abs(z - exact) <= 2.5 * np.spacing(np.abs(exact).astype(np.float32)) + 2e-7).all()
    assert np.array_equal(z[: 54 * 3], -z[54 * 3 : 54 * 6])
    assert np.array_equal(z, quantile.normal_of(torch.from_numpy(words)).numpy())
    p = np.logspace(-16, 0, 1001)
    np.testing.assert_allclose(
        quantile.half_normal(p), -special.ndtri(p / 2), rtol=2e-15, atol=1e-15
    )


def test_numbers_grow_with_the_word():
    """Across an interval's end as well, but for a rounding."""
    words = np.sort(extreme_words())
    z = quantile.normal_here(words)
    positive = z[words >= 0]
    assert (np.diff(positive) <= np.spacing(positive[1:])).all()


def test_streams_differ_and_are_normal():
    draws = torch.stack(
        [normal(s, range(2), k, (20000,), torch.float64, None) for s in (0, 1) for k in (0, 1)]
        + [
            Stream(0, range(2), (20000,), torch.float64, None).at(Place(t, k))
            for t, k in ((1.0, 0), (1.0, 1), (0.5, 0))
        ]
    ).flatten(0, 1)
    correlation = torch.corrcoef(draws) - torch.eye(14, dtype=torch.float64)
    assert correlation.abs().max() < 5 / 20000**0.5
    assert draws.mean().abs() < 5 / draws.numel() ** 0.5
    assert (draws.var() - 1).abs() < 5 * (2 / draws.numel()) ** 0.5


@pytest.mark.parametrize("n", [1, 4000])
def test_the_law_is_the_normal_one_into_the_tails(n):
    x = np.sort(normal(2, range(n), 0, (10**6 // n,), torch.float64, None).numpy().ravel())
    assert stats.kstest(x, "norm").pvalue > 1e-4
    squares = ((x**k).mean() for k in (1, 2, 3, 4))
    for got, mean, variance in zip(squares, (0, 1, 0, 3), (1, 2, 15, 96), strict=True):
        assert abs(got - mean) < 5 * (variance / x.size) ** 0.5
    for tail in (2.0, 3.0, 4.0):
        expected = x.size * 2 * stats.norm.sf(tail)
        assert abs((np.abs(x) > tail).sum() - expected) < 5 * expected**0.5


def test_neighbours_are_independent():
    """Of position, sample, draw, time and seed: of values and of squares."""
    one = normal(5, range(1000), 0, (200,), torch.float64, None)
    stream = Stream(5, range(1000), (200,), torch.float64, None)
    others = {
        "position": (one[:, :-1], one[:, 1:]),
        "sample": (one[:-1], one[1:]),
        "draw": (one, normal(5, range(1000), 1, (200,), torch.float64, None)),
        "seed": (one, normal(6, range(1000), 0, (200,), torch.float64, None)),
        "again": (stream.at(Place(0.5, 0)), stream.at(Place(0.5, 1))),
        "time": (stream.at(Place(0.5, 0)), stream.at(Place(math.nextafter(0.5, 1), 0))),
    }
    for what, (a, b) in others.items():
        for power in (1, 2):
            pair = torch.stack([a.flatten() ** power, b.flatten() ** power])
            assert torch.corrcoef(pair)[0, 1].abs() < 5 / a.numel() ** 0.5, what


def test_a_number_takes_no_longer_than_three_of_numpys():
    def seconds(call):
        times = []
        for _ in range(9):
            begin = time.perf_counter()
            call()
            times.append(time.perf_counter() - begin)
        return min(times)

    out, generator = np.empty((4, 50000), np.float32), np.random.Generator(np.random.Philox(key=1))
    theirs = seconds(lambda: generator.standard_normal(dtype=np.float32, out=out))
    assert seconds(lambda: normal(1, range(4), 0, (50000,), torch.float32, None)) < 3 * theirs
    # Of one number each, samples took 1.7 µs, and 100 such numbers take that here.
    small = seconds(lambda: normal(1, range(5000), 0, (1,), torch.float32, None))
    assert small / 5000 < 300 * theirs / out.size


def test_float64_sees_the_float32_noise():
    a, b = (normal(3, range(4), 1, (6,), dtype, None) for dtype in (torch.float32, torch.float64))
    assert a.dtype == torch.float32 and b.dtype == torch.float64 and torch.equal(a.double(), b)


@pytest.mark.parametrize("solver", FIXED)
def test_a_run_does_not_depend_on_how_it_is_split(solver):
    arguments = {"solver": solver, "nfe": 9, "seed": 5}
    whole = flowsolve.sample(MODEL, n=7, **arguments)
    assert torch.equal(whole, flowsolve.sample(MODEL, n=7, batch_size=3, **arguments))
    assert torch.equal(whole[4:], flowsolve.sample(MODEL, n=3, first=4, **arguments))


ONE_STEP = [
    "ddpm",
    "ddpm_large",
    "gddim",
    "dpm2_a",
    "dpmpp2s_a",
    "dpmpp_sde",
    "er_sde1",
    "euler_maruyama",
]


@pytest.mark.parametrize("solver", [*ONE_STEP, "lcm"])
@pytest.mark.parametrize("cut", [1, 2, 4])
def test_a_run_in_two_draws_what_the_whole_one_does(solver, cut):
    times = [1.0, 0.7, 0.45, 0.2, 0.05, 0.0]
    whole = flowsolve.sample(MODEL, solver=solver, grid=times, n=3, seed=4)
    half = flowsolve.sample(MODEL, solver=solver, grid=times[: cut + 1], n=3, seed=4)
    both = flowsolve.sample(MODEL, solver=solver, grid=times[cut:], start=half, seed=4)
    assert torch.equal(whole, both)


def test_no_draw_of_a_run_is_made_twice():
    """Where a step draws more than once, and where a level is come back to."""
    solvers = [name for name in FIXED if flowsolve.plan(name, flowsolve.VP(), nfe=30).draws]
    assert len(solvers) > 12
    for name in solvers:
        plan = flowsolve.plan(name, flowsolve.VP(), nfe=30)
        assert len(set(plan.places)) == plan.draws, name
        assert {place.time for place in plan.places} <= {level.t for level in plan.levels}
    again = {place.again for place in flowsolve.plan("restart", flowsolve.VP(), nfe=30).places}
    assert again == {0, 1}


def test_places_are_those_of_a_file_too(tmp_path):
    plan = flowsolve.plan("dpmpp_sde", flowsolve.VP(), nfe=9)
    plan.save(tmp_path / "plan.json")
    assert flowsolve.Plan.load(tmp_path / "plan.json").places == plan.places


def test_a_variance_does_not_suffer_from_a_cut():
    model = flowsolve.exact.Gaussian(flowsolve.VP(), [1.0], 0.25)
    times = [*np.linspace(1, 0, 12).tolist()]
    whole = flowsolve.sample(model, solver="dpmpp2m_sde", grid=times, n=20000, seed=0)
    half = flowsolve.sample(model, solver="dpmpp2m_sde", grid=times[:7], n=20000, seed=0)
    both = flowsolve.sample(model, solver="dpmpp2m_sde", grid=times[6:], start=half, seed=0)
    # A cut costs the method its past, not its noise: on whole grids it does not show.
    assert abs(both.std() / whole.std() - 1) < 0.02


@pytest.mark.parametrize("solver", ["ddim", "ddpm", "restart", "adaptive"])
@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_a_seed_for_each_sample(solver, kind):
    seeds = [7, 1234, 99]
    one = torch.cat([flowsolve.sample(MODEL, solver=solver, n=1, seed=s) for s in seeds])
    together = flowsolve.solve(MODEL, solver=solver, seed=kind(seeds))
    assert torch.equal(together.x, one) and together.seed == (7, 1234, 99)
    assert torch.equal(one, flowsolve.sample(MODEL, solver=solver, seed=kind(seeds), batch_size=2))
    part = flowsolve.sample(MODEL, solver=solver, seed=kind(seeds[1:]), n=2, first=1)
    assert torch.equal(part, one[1:])
    assert torch.equal(flowsolve.sample(MODEL, solver=solver, seed=together.seed), one)


def test_many_seeds_and_a_start_of_ones_own():
    seeds = [2**64 - 1 - k for k in range(600)]  # more than are drawn one after another
    model = flowsolve.Denoiser(elementwise, flowsolve.VP(), "eps", (1,))
    start = torch.randn(600, 1)
    whole = flowsolve.sample(model, solver="ddpm", nfe=3, seed=seeds, start=start)
    few = flowsolve.sample(model, solver="ddpm", nfe=3, seed=seeds[5:8], start=start[5:8])
    assert torch.equal(whole[5:8], few)


@pytest.mark.parametrize("how", [{"n": 2}, {"n": 4}, {"start": torch.zeros(2, 2, 3)}])
@pytest.mark.parametrize("solver", ["ddim", "ddpm"])
def test_seeds_are_as_many_as_samples(how, solver):
    with pytest.raises(ValueError, match=r"seed has 3 numbers; expected .*one for each of the"):
        flowsolve.sample(MODEL, solver=solver, nfe=3, seed=[1, 2, 3], **how)
    if "n" in how:
        with pytest.raises(ValueError, match="seed has 3 numbers"):
            flowsolve.sample(MODEL, nfe=3, seed=[1, 2, 3], batch_size=2, **how)


def test_global_generators_are_not_touched():
    torch.manual_seed(0)
    before, np_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, second = (flowsolve.solve(MODEL, solver="ddpm", nfe=3) for _ in range(2))
    assert (
        torch.equal(before, torch.get_rng_state()) and (np_before == np.random.get_state()[1]).all()
    )
    assert not torch.equal(first.x, second.x)
    assert torch.equal(first.x, flowsolve.sample(MODEL, solver="ddpm", nfe=3, seed=first.seed))


def test_torchs_modes_change_nothing():
    expected = [normal(8, range(n), 3, (2,), torch.float32, None) for n in (3, 600)]
    bfloat16 = torch.autocast("cpu", torch.bfloat16)
    for mode in (torch.inference_mode(), torch.device("meta"), bfloat16):
        quantile.table_on.cache_clear()
        with mode:
            drawn = [normal(8, range(n), 3, (2,), torch.float32, None) for n in (3, 600)]
        again = [normal(8, range(n), 3, (2,), torch.float32, None) for n in (3, 600)]
        for a, b, c in zip(expected, drawn, again, strict=True):
            assert torch.equal(a, b.clone()) and torch.equal(a, c)
    x = torch.ones(600, 2, requires_grad=True)
    (x * again[1]).sum().backward()
    assert torch.equal(x.grad, expected[1])


def test_own_noise():
    start, z = torch.randn(4, 2, 3), torch.randn(8, 4, 2, 3)
    a = flowsolve.solve(MODEL, solver="ddpm", nfe=8, start=start, noise=z)
    b = flowsolve.solve(MODEL, solver="ddpm", nfe=8, start=start, noise=lambda k: z[k])
    assert torch.equal(a.x, b.x) and a.seed is None
    with pytest.raises(ValueError, match="no draw number 3"):
        flowsolve.solve(MODEL, solver="ddpm", nfe=8, start=start, noise=z[:3])
    with pytest.raises(ValueError, match=r"draw 0 has shape \(4, 6\)"):
        flowsolve.solve(MODEL, solver="ddpm", nfe=8, start=start, noise=z.flatten(2))


@pytest.mark.parametrize(
    ("seed", "error", "name"),
    [
        (-1, ValueError, "seed=-1"),
        (2**64, ValueError, "seed=18446744073709551616"),
        (1.5, TypeError, "seed=1.5"),
        ("a", TypeError, "seed='a'"),
        (True, TypeError, "seed=True"),
        ([], ValueError, r"seed=\[\]"),
        ([1, -1], ValueError, r"seed\[1\]=-1"),
        ([1, 2.0], TypeError, r"seed\[1\]=2.0"),
        ([[1]], TypeError, r"seed\[0\]=\[1\]"),
        (np.array(1.5), TypeError, "seed=array"),
    ],
)
@pytest.mark.parametrize("how", [{}, {"start": torch.zeros(1, 2, 3)}, {"batch_size": 1}])
def test_bad_seeds(seed, error, name, how):
    with pytest.raises(error, match=name):
        flowsolve.sample(MODEL, seed=seed, **how)


@pytest.mark.parametrize("seed", [np.int64(3), torch.tensor(3), np.array(3), np.uint64(3)])
def test_a_seed_of_another_library(seed):
    expected = flowsolve.sample(MODEL, solver="ddpm", nfe=3, seed=3)
    assert torch.equal(flowsolve.sample(MODEL, solver="ddpm", nfe=3, seed=seed), expected)
