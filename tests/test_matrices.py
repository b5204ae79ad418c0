"""Operators that are matrices: their algebra and their action against dense matrices, and plans
that are made of them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from problems import F64, MATRIX_PROCESSES, MATRIX_SHAPES, WORKING, dense, elementwise
from scipy.fft import dctn, idctn

import flowsolve
from flowsolve.coordinates import DATA, NOISE
from flowsolve.operators import Block, Diagonal, Scalar, back, combine, transform
from flowsolve.plans import Plan
from flowsolve.solvers import DDIM

EPS = torch.finfo(F64).eps
entry = st.integers(-4000, 4000).map(lambda k: k / 1000)
#: Operators of each kind, and the shape of states they act on: two channels of positions, two of
#: velocities; two of a picture.
KINDS = {
    "block": (arrays(np.float64, (2, 2), elements=entry).map(Block.of), (4, 3)),
    "diagonal": (arrays(np.float64, (3, 4), elements=entry).map(Diagonal), (2, 3, 4)),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def close(operator, expected, scale=1.0):
    """Entry by entry, to the rounding of a few products of numbers up to 4 and sums of ``scale`` of
    them."""
    shape = (4, 3) if isinstance(operator, Block) else (2, 3, 4)
    torch.testing.assert_close(dense(operator, shape), expected, rtol=0, atol=1e3 * EPS * scale)


@kinds
@given(data=st.data(), factor=entry)
def test_algebra(kind, data, factor):
    of, shape = KINDS[kind]
    a, b = data.draw(of), data.draw(of)
    m, n = dense(a, shape), dense(b, shape)
    close(a @ b, m @ n)
    close(a + b, m + n)
    close(a - b, m - n)
    close(-a, -m)
    close(a * factor, factor * m)
    close(factor * a, factor * m)
    close(a.T, m.T)
    close(a.eye(), torch.eye(len(m), dtype=F64))
    close(a.mixed([a, b, a], [factor, 2.0, -1.0]), (factor - 1.0) * m + 2.0 * n)
    assert a.mean_square == pytest.approx(
        float(torch.linalg.svdvals(m).square().mean()), rel=1e-12, abs=1e-28
    )


@kinds
@given(data=st.data())
def test_inverse(kind, data):
    of, shape = KINDS[kind]
    a = data.draw(of)
    m = dense(a, shape)
    if a.singular:
        assert float(torch.linalg.svdvals(m)[-1]) < 1e-14 * (1 + float(m.abs().max()))
        with pytest.raises(ZeroDivisionError):
            a.inverse()
    else:
        # Entries are multiples of 1e-3: a determinant is at least 1e-6, the condition below 1e8.
        torch.testing.assert_close(
            dense(a.inverse() @ a, shape), torch.eye(len(m), dtype=F64), rtol=0, atol=1e8 * 10 * EPS
        )


@kinds
@given(data=st.data())
def test_roots(kind, data):
    of, shape = KINDS[kind]
    a, b = data.draw(of), data.draw(of)
    m = dense(a, shape)
    square = (a @ a.T).root()
    # Cholesky's factor of what is rounded by 1e-15 is off by the root of that where it is singular,
    # its square is not.
    close(square @ square.T, m @ m.T, scale=10.0)
    louder = (a @ a.T + b @ b.T).root()
    added = louder.excess(b)
    close(added @ added.T, m @ m.T, scale=10.0)
    assert a.excess(a).mean_square <= 1e-12 * (1 + a.mean_square)
    if kind == "block":
        assert square.b == 0.0 and square.a >= 0.0 and square.d >= 0.0, "lower triangular"
    if a.mean_square > 1e-3:
        with pytest.raises(ValueError, match=r"negative|not positive"):
            (-(a @ a.T)).root()


@kinds
@given(
    data=st.data(),
    seed=st.integers(0, 1000),
    others=st.lists(st.tuples(entry, entry), min_size=1, max_size=4),
)
def test_combinations(kind, data, seed, others):
    """Of operators one of which is a combination of the others with the identity, as in every step
    on a diagonal process."""
    of, shape = KINDS[kind]
    a, b = data.draw(of), data.draw(of)
    operators = [a, b, *(a * alpha + a.eye() * beta for alpha, beta in others), a.eye(), a * 0.0]
    xs = list(
        torch.randn(
            len(operators), 3, *shape, dtype=F64, generator=torch.Generator().manual_seed(seed)
        )
    )
    before = [x.clone() for x in xs]
    parts = [
        (x.flatten(1) @ dense(o, shape).T).view(x.shape) for o, x in zip(operators, xs, strict=True)
    ]
    size = 1 + max(float(part.abs().max()) for part in parts)
    room = {"rtol": 0, "atol": 1e4 * EPS * size}
    for k in range(1, len(operators) + 1):
        torch.testing.assert_close(combine(operators[:k], xs[:k]), sum(parts[:k]), **room)
        out = combine(operators[-k:], xs[-k:])
        torch.testing.assert_close(out, sum(parts[-k:]), **room)
        assert all(out.data_ptr() != x.data_ptr() for x in xs), "a fresh tensor"
    torch.testing.assert_close(a @ xs[0], parts[0], **room)
    torch.testing.assert_close(b.added_to(xs[0], xs[1]), xs[0] + parts[1], **room)
    torch.testing.assert_close(b.add_to(xs[0].clone(), xs[1]), xs[0] + parts[1], **room)
    each = a.each(operators[:3], xs[1])
    torch.testing.assert_close(
        each, torch.cat([o @ xs[1][i : i + 1] for i, o in enumerate(operators[:3])]), **room
    )
    assert all(torch.equal(x, y) for x, y in zip(xs, before, strict=True)), (
        "nothing is changed in place"
    )


@kinds
@given(data=st.data())
def test_what_an_operator_says_of_itself(kind, data):
    of, shape = KINDS[kind]
    a, b = data.draw(of), data.draw(of)
    m = dense(a, shape)
    assert (
        a == data.draw(st.just(a * 1.0))
        and hash(a) == hash(a * 1.0)
        and len({a, a * 1.0, a.T.T}) == 1
    )
    assert (a == b) == torch.equal(m, dense(b, shape)) and a != Scalar(1.0) and a != a + a.eye()
    assert a.eye().one and (a * 0.0).zero and (a * 0.0).singular and not a.eye().singular
    assert a.zero == (not m.any()) and a.one == torch.equal(m, torch.eye(len(m), dtype=F64))


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (8, 3), (32, 32)])
def test_the_transform_is_scipys(size, dtype):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, *size, dtype=F64, generator=generator)
    values = torch.randn(*size, dtype=F64, generator=generator).numpy()
    spectrum = dctn(x.numpy(), axes=(-2, -1), norm="ortho")
    room = {"rtol": 0, "atol": 20 * math.hypot(*size) * torch.finfo(dtype).eps}
    torch.testing.assert_close(transform(x.to(dtype)).double(), torch.from_numpy(spectrum), **room)
    torch.testing.assert_close(back(transform(x.to(dtype))).double(), x, **room)
    expected = torch.from_numpy(idctn(spectrum * values, axes=(-2, -1), norm="ortho"))
    got = Diagonal(values) @ x.to(dtype)
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), expected, **room)


@kinds
def test_gradients_go_through_combinations(kind):
    _, shape = KINDS[kind]
    rng = np.random.default_rng(0)
    a = Block.of(rng.normal(size=(2, 2))) if kind == "block" else Diagonal(rng.normal(size=(3, 4)))
    xs = tuple(torch.randn(2, *shape, dtype=F64, requires_grad=True) for _ in range(3))
    assert torch.autograd.gradcheck(lambda *xs: combine((a, a * 0.5 + a.eye(), a.eye()), xs), xs)
    assert torch.autograd.gradcheck(lambda x: a.each([a, a.T], x), xs[:1])


def test_positions_come_before_velocities():
    x = torch.arange(4.0, dtype=F64).view(1, 4, 1)
    assert (Block(1.0, 10.0, 0.0, 1.0) @ x).flatten().tolist() == [20.0, 31.0, 2.0, 3.0]
    assert repr(Block(1.0, 0.5, -2.0, 1e-7)) == "[1 0.5; -2 1e-07]"
    assert (
        repr(Diagonal(np.array([[1.0, 0.25]]))) == "DCT(1 ... 0.25)"
        and repr(Diagonal(np.full((2, 2), 0.5))) == "0.5"
    )


@pytest.mark.parametrize(
    "entries", [(1.0, 2.0, 2.0, 1.0), (-1.0, 0.0, 0.0, 1.0), (0.0, 1.0, 1.0, 1.0)]
)
def test_no_root_of_what_is_not_positive(entries):
    with pytest.raises(ValueError, match="not positive"):
        Block(*entries).root()


# Plans.


@pytest.mark.sweep(keep=0.25)
@pytest.mark.parametrize(("name", "solver"), WORKING)
def test_saved_loaded_and_sampled_with(solver, name, tmp_path):
    process = MATRIX_PROCESSES[name]
    plan = flowsolve.plan(solver, process, nfe=7)
    plan.save(tmp_path / "plan.json")
    loaded = Plan.load(tmp_path / "plan.json")
    assert plan == plan and loaded == plan and hash(loaded) == hash(plan)
    assert (loaded.program.instructions, loaded.levels) == (
        plan.program.instructions,
        plan.levels,
    ), "to the bit"
    assert plan != flowsolve.plan(solver, process, nfe=6)
    model = flowsolve.Denoiser(elementwise, process, "eps", MATRIX_SHAPES[name])
    named, planned, again = (
        flowsolve.solve(model, n=3, seed=0, keep=("path", "x0"), **arguments)
        for arguments in ({"solver": solver, "nfe": 7}, {"solver": plan}, {"solver": loaded})
    )
    for other in (planned, again):
        assert (
            torch.equal(named.x, other.x)
            and torch.equal(named.path, other.path)
            and torch.equal(named.x0_path, other.x0_path)
        )
        assert (named.nfe, named.grid, named.seed) == (other.nfe, other.grid, other.seed)


@pytest.mark.parametrize("name", MATRIX_PROCESSES)
def test_one_method_is_one_plan_and_two_are_two(name):
    process = MATRIX_PROCESSES[name]
    for nfe in (1, 2, 12):
        a, b = (flowsolve.plan(DDIM(coordinates=c), process, nfe=nfe) for c in (NOISE, DATA))
        assert a == b and hash(a) == hash(b)
    assert flowsolve.plan("ab3", process, nfe=9) == flowsolve.plan("deis3", process, nfe=9), (
        "both polynomials are drawn in t"
    )
    assert flowsolve.plan("gddim", process, nfe=9) == flowsolve.plan("ddpm", process, nfe=9)
    for other in ("ab2", "etd3", "ddpm", "ipndm3"):
        assert flowsolve.plan("ab3", process, nfe=9, grid="quadratic") != flowsolve.plan(
            other, process, nfe=9, grid="quadratic"
        )
    assert flowsolve.plan("ddim", process, nfe=5) != flowsolve.plan("ddim", flowsolve.VP(), nfe=5)


def test_a_plan_belongs_to_its_process():
    plan = flowsolve.plan("ddim", flowsolve.CLD(), nfe=3)
    for process, shape in (
        (flowsolve.CLD(gamma=0.05), (2,)),
        (flowsolve.Blurring(2), (2, 2)),
        (flowsolve.VP(), (2,)),
    ):
        with pytest.raises(ValueError, match="made for another process"):
            flowsolve.sample(flowsolve.Denoiser(elementwise, process, "eps", shape), solver=plan)


def test_printed():
    """A row has its level's A and R, a step its matrices; what is printed is what is computed."""
    process = flowsolve.CLD()
    plan = flowsolve.plan("ddim", process, grid=[1.0, 0.5, -math.inf])
    lines = str(plan).splitlines()
    for t, asked in ((1.0, "eps(x1)"), (0.5, "x0(x2)")):
        level = process.level(t)
        (row,) = (line for line in lines if line.endswith(asked))
        assert repr(level.A) in row and repr(level.R) in row
    carry = process.level(0.5).A @ process.level(1.0).A.inverse()
    assert f"{carry!r}*x1" in str(plan) and "-inf" in lines[-1]
    assert "DCT(" in str(flowsolve.plan("ab2", flowsolve.Blurring(2), nfe=3)) and all(
        len(line) < 300 for line in lines
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('{"block": [[', '{"blok": [['),
        ("[[", "[[[1, 2], "),
        ("[[", "[[null, "),
        ('"-inf"', '"-Infinity"'),
    ],
)
def test_damaged_files(old, new, tmp_path):
    path = tmp_path / "plan.json"
    flowsolve.plan("ddim", flowsolve.CLD(), nfe=2).save(path)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match="expected a flowsolve plan"):
        Plan.load(path)
