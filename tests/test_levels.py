"""Levels that exist, by whatever name and in whoever's numbers; those that do not; processes of
one's own."""

import itertools
import math
import pickle
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from problems import EXAMPLES, F64, MATRIX_PROCESSES, PROCESSES, elementwise

import flowsolve
from flowsolve import exact
from flowsolve.processes import VARIABLES, Process, ScalarProcess, SubVP, tables

INF, NAN = math.inf, math.nan
ONE_WAY = {"sigma": (0.0, INF), "lambda": (-INF, INF), "flow_time": (0.0, 1.0)}


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("variable", VARIABLES)
def test_levels_that_do_not_exist(name, variable):
    process, of = PROCESSES[name], VARIABLES[variable].of
    noisy, clean = of(process.start), of(process.clean)
    up = 1.0 if noisy > clean else -1.0
    beyond = [NAN, -INF if up > 0 and clean != -INF else NAN]
    if math.isfinite(noisy):
        beyond += [up * INF, noisy + up * (0.1 + abs(noisy)), noisy + 1e-4 * up * (1 + abs(noisy))]
    if math.isfinite(clean):
        beyond += [clean - up * 1e-3, clean - up]
    for value in beyond:
        with pytest.raises(ValueError, match=rf"^{variable}=") as caught:
            process.at(variable, value)
        assert repr(value) in str(caught.value) and "expected" in str(caught.value)


@pytest.mark.parametrize("name", PROCESSES)
def test_times_of_sigmas_that_do_not_exist(name):
    process = PROCESSES[name]
    top = process.start.sigma
    for sigma in (-1.0, NAN, -INF, *[2.0 * top, INF] * math.isfinite(top)):
        with pytest.raises(ValueError, match=r"^sigma="):
            process.time_of(sigma)
    for sigma in ("a", None, 1j, [1.0], True):
        with pytest.raises(TypeError, match=r"^sigma="):
            process.time_of(sigma)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: flowsolve.VE().at("sigma", 500), "sigma=500.0 is outside.*<= 50,"),
        (lambda: flowsolve.VP().at("sigma", -1), "sigma=-1.0"),
        (lambda: flowsolve.VP().at("lambda", -800), "lambda=-800.0"),
        (lambda: flowsolve.VP().time_of(INF), "sigma=inf"),
        (lambda: flowsolve.RectifiedFlow().at("flow_time", 1.5), "flow_time=1.5"),
        (lambda: flowsolve.VP.discrete([0.9999] * 1000), r"betas\[\d+\]=0.9999.*more noise"),
        (lambda: flowsolve.VP(0.1, 1e300), r"beta_max=1e\+300: nothing is left"),
        (lambda: SubVP(1e300, 1e300), r"beta_min=1e\+300"),
        (lambda: flowsolve.VE(1e-300, 1e300), "sigma_min=1e-300"),
        (lambda: tables.zero_terminal_snr([1e-17] * 2), "betas=.*each with more noise"),
        (lambda: tables.zero_terminal_snr([0.1]), "betas=.*at least two"),
        (lambda: tables.linear(0), "entries=0"),
        (lambda: tables.linear(10**12), "entries=1000000000000"),
        (lambda: tables.linear(10, NAN), "start=nan"),
        (lambda: tables.linear(10, stop=2.0), "stop=2.0"),
        (lambda: tables.cosine(10, largest=0.0), "largest=0.0"),
        (lambda: tables.cosine(10, s=-1.0), "s=-1.0"),
        (lambda: flowsolve.VP().at("t", NAN), "t=nan"),
        (lambda: flowsolve.EDM().label(flowsolve.EDM().clean), "level=.*with noise"),
    ],
)
def test_what_is_none(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: flowsolve.VP("a"), "beta_min='a'"),
        (lambda: flowsolve.VP(beta_mx=2.0), "Did you mean 'beta_max'"),
        (lambda: flowsolve.VE(sigma_max=[1.0]), "sigma_max="),
        (lambda: flowsolve.EDM(True), "sigma_min=True"),
        (lambda: flowsolve.VP.discrete(5), "betas=5"),
        (lambda: flowsolve.VP.discrete(["a"]), r"betas\[0\]='a'"),
        (lambda: flowsolve.VP.cosine("a"), "s='a'"),
        (lambda: flowsolve.VP().level("a"), "t='a'"),
        (lambda: flowsolve.VP().at("sigma", None), "sigma=None"),
        (lambda: flowsolve.processes.Blurring("a"), "size='a'"),
        (lambda: flowsolve.processes.CLD(gamma="a"), "gamma='a'"),
        (lambda: tables.linear(2.5), "entries=2.5"),
        (lambda: flowsolve.VP().at(["sigma"], 1.0), r"variable=\['sigma'\]"),
        (lambda: flowsolve.VP().rates(0.5), "level=0.5"),
        (lambda: flowsolve.VP().bridge(flowsolve.VP().start, 0.5, 1.0), "t=0.5"),
        (lambda: flowsolve.processes.CLD().state([1.0]), r"x0=\[1.0\]"),
    ],
)
def test_what_is_of_another_type(make, message):
    with pytest.raises(TypeError, match=message):
        make()


@pytest.mark.parametrize("name", EXAMPLES)
def test_rounding_of_float32_is_found(name):
    process = EXAMPLES[name]
    for make in (np.float32, np.float64, torch.tensor):
        assert process.level(make(process.t_max)).t == pytest.approx(process.t_max, rel=1e-7)
    assert process.level(process.t_max * (1.0 + 2e-7)) == process.start
    if process.scalar and math.isfinite(process.t_clean):
        assert process.level(process.t_clean - 5.6e-17) == process.clean
        assert process.at("sigma", -5.6e-17) == process.clean
    if not process.scalar:
        assert process.level(-5.6e-17) == process.level(0.0)
    top = process.start.sigma if process.scalar else INF
    if math.isfinite(top):
        for sigma in (top * (1.0 + 5e-6), float(np.float32(top)), math.nextafter(top, INF)):
            assert process.at("sigma", sigma).sigma == pytest.approx(top, rel=1e-6)
        assert process.at("lambda", -math.log(top) - 1e-6).sigma == pytest.approx(top, rel=1e-5)
    one = flowsolve.EDM(sigma_max=1.0)  # λ is 0 there
    assert one.at("lambda", -1e-7) == one.start


@pytest.mark.parametrize("entries", [1000, 4000])
@pytest.mark.parametrize("table", ["linear", "scaled_linear", "cosine"])
def test_a_table_s_sigmas_in_float32(table, entries):
    """As diffusers computes them: a cumulated product in float32."""
    betas = getattr(tables, table)(entries)
    process = flowsolve.VP.discrete(betas)
    alpha_bar = np.cumprod(1.0 - np.array(betas, dtype=np.float32), dtype=np.float32)
    sigmas = np.sqrt((1.0 - alpha_bar) / alpha_bar)
    for i in (*range(0, entries, 97), entries - 1):
        level = process.at("sigma", sigmas[i])
        assert level.t == pytest.approx(i, abs=0.02)


@pytest.mark.parametrize(("top", "low"), [(14.6146, 0.0292), (700.0, 0.0292), (80.0, 0.002)])
def test_karras_sigmas_in_float32(top, low):
    """k-diffusion's, with 0 at the end, are Euler's method on themselves."""
    ramp = torch.linspace(0, 1, 10)
    steps = (top ** (1 / 7) + ramp * (low ** (1 / 7) - top ** (1 / 7))) ** 7
    sigmas = [*steps.tolist(), -5.6e-17]
    model = exact.Gaussian(flowsolve.EDM(low, top), [1.0, -2.0], 0.3)
    x = model.draw(3, level=top)
    want = x
    for a, b in itertools.pairwise(sigmas):
        want = want + (b - a) * (want - torch.tensor([1.0, -2.0])) * a / (0.3 + a * a)
    got = flowsolve.sample(model, solver="ddim", grid=sigmas, start=x)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-6 * top)


def test_far_sigmas_are_levels():
    """Squares of these are no float64."""
    for process in (flowsolve.VP(0.1, 1000.0), flowsolve.VP.cosine(), flowsolve.RectifiedFlow()):
        for sigma in (1e90, 1e100):
            level = process.at("sigma", min(sigma, process.start.sigma))
            assert level.pure_noise or level.sigma == pytest.approx(sigma, rel=1e-9)
    assert flowsolve.VP(0.1, 2000.0).time_of(1e200) == pytest.approx(0.96, abs=0.01)


@dataclass(frozen=True)
class _InNumPy(ScalarProcess):
    """Cosine in NumPy's numbers, ends and arrays of no dimension and all."""

    t_max = np.float64(1.0)
    t_min = np.float32(1e-3)
    t_clean = np.int64(0)

    def signal_and_noise(self, t):
        return np.sin(0.5 * np.pi * (1.0 - t)), np.array(np.sin(0.5 * np.pi * t))

    def signal_and_noise_rates(self, t):
        a, r = self.signal_and_noise(t)
        return -0.5 * np.pi * r, 0.5 * np.pi * a

    def time_of(self, sigma):
        return np.arctan(sigma) / (0.5 * np.pi)


def test_a_process_written_with_numpy():
    process, same = _InNumPy(), flowsolve.VP.cosine(s=0.0)
    for level in (process.start, process.clean, process.level(0.3), process.at("sigma", 2.0)):
        assert all(type(v) is float for v in (level.t, level.A.value, level.R.value, level.sigma))
        assert type(level.clean) is type(level.pure_noise) is type(level.A.one) is bool
    x = torch.randn(2, 3, dtype=F64)
    for solver in ("ddim", "dpmpp2m", "ddpm", "adaptive", "bosh3", "unipc3"):
        options = {} if solver in ("adaptive", "bosh3") else {"nfe": 6}
        for predicts in ("x0", "velocity"):
            ours, theirs = (
                flowsolve.sample(
                    flowsolve.Denoiser(elementwise, p, predicts, (3,), time="t", dtype=F64),
                    **{"solver": solver, "start": x, "seed": 0, "span": (0.9, 0.2)} | options,
                )
                for p in (process, same)
            )
            torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-7)


def test_blocks_of_numpy_s_numbers():
    block = flowsolve.operators.Block(*np.array([0.0, 0.0, 0.0, 0.0]))
    assert type(block.zero) is bool and type(block.singular) is bool


class _Bare(ScalarProcess):
    """One that says what it must."""

    t_max, t_min = 1.0, 1e-3

    def signal_and_noise(self, t):
        return 1.0 - t, t

    def signal_and_noise_rates(self, t):
        return -1.0, 1.0

    def time_of(self, sigma):
        return sigma / (1.0 + sigma)


def test_a_process_that_can_change_is_refused():
    @dataclass
    class _Loose(_Bare):
        scale: float = 1.0

    class _Set(_Bare):
        def __init__(self):
            self.scale = 1.0

    @dataclass
    class _Empty(_Bare):
        pass

    @dataclass(frozen=True)
    class _Listed(_Bare):
        scales: list = field(default_factory=lambda: [1.0])

    for make, message in (
        (_Loose, "scale=1.0 cannot be set.*Loose to be a frozen dataclass"),
        (_Set, "scale=1.0 cannot be set"),
        (_Empty, "expected a frozen dataclass"),
        (_Listed, r"scales=\[1.0\]: expected what can be hashed"),
        (lambda: setattr(flowsolve.VP(), "beta_max", 3.0), "cannot assign|cannot be set"),
    ):
        with pytest.raises((TypeError, AttributeError), match=message):
            make()
    assert (
        flowsolve.sample(flowsolve.Denoiser(elementwise, _Bare(), "x0", (3,)), nfe=3)
        .isfinite()
        .all()
    )


@pytest.mark.parametrize("values", [(NAN, 1.0), (1.0, INF), (1.0,), ("a", 1.0)])
def test_a_process_whose_numbers_are_none(values):
    class _Wrong(_Bare):
        def signal_and_noise(self, t):
            return values

    with pytest.raises((TypeError, ValueError), match=r"t=0.5: .*Wrong"):
        _Wrong().level(0.5)


def test_ends_are_kept_and_travel():
    """They are made once, and are no part of what a process is."""
    for process in EXAMPLES.values():
        assert process.start is process.start and process.clean is process.clean
        other = pickle.loads(pickle.dumps(process))
        assert other == process and hash(other) == hash(process) and other.start == process.start
    assert issubclass(_Bare, Process) and MATRIX_PROCESSES
