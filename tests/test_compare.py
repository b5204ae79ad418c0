"""Comparisons of solvers: the numbers are those of ``solve`` against the ODE, and whatever ends a
run, what is finished stays."""

from __future__ import annotations

import math
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.integrate
import torch
from problems import F64, MATRIX_PROCESSES, PROCESSES, elementwise, matrix_mixture, mixture, rms

import flowsolve
from flowsolve import comparison, pictures
from flowsolve.cli import main
from flowsolve.comparison import measure
from flowsolve.models import digits

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("matplotlib")

PLANE = mixture(PROCESSES["vp"])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference of few evaluations, for tests in which it only has to be there."""
    monkeypatch.setattr(measure, "REFERENCE_NFE", 8)


def end_of_the_ode(model: flowsolve.exact.Mixture, x: torch.Tensor) -> torch.Tensor:
    """From x at the process's start along dx̄ = ε̂ dσ̄ to t_min by scipy alone, and from there the
    x̂0."""
    process, shape = model.process, x.shape
    start, quiet = process.start, process.level(process.t_min)

    def slope(sigma: float, bar: np.ndarray) -> np.ndarray:
        level = process.at("sigma", sigma)
        return model(level.A @ torch.from_numpy(bar).view(shape), level).eps.flatten().numpy()

    bar = (x.to(F64) / start.A.value).flatten().numpy()
    end = scipy.integrate.solve_ivp(
        slope, (start.sigma, quiet.sigma), bar, method="DOP853", rtol=1e-10, atol=1e-10
    ).y[:, -1]
    return model(quiet.A @ torch.from_numpy(end).view(shape), quiet).x0


@pytest.mark.parametrize("process", ["vp", "discrete", "edm"])
def test_errors_are_distances_to_the_end_of_the_ode(process: str) -> None:
    model, names, budgets = mixture(PROCESSES[process]), ("ddim", "heun", "ab3"), (6, 30)
    result = flowsolve.compare(model, solvers=names, nfe=budgets, n=8, seed=3, grid="karras")
    start = flowsolve.solve(model, solver="ddim", nfe=1, n=8, seed=3, keep="path").path[0]
    truth = end_of_the_ode(model, start)
    assert rms(result.reference - truth) < 1e-5
    for i, name in enumerate(names):
        for k, nfe in enumerate(budgets):
            x = flowsolve.sample(model, solver=name, nfe=nfe, n=8, seed=3, grid="karras")
            assert torch.equal(result.samples[name, nfe], x)
            each = [rms(a - b) for a, b in zip(x, truth, strict=True)]
            np.testing.assert_allclose(result.errors[i, k], each, atol=2e-5)
            assert result.rmse[i, k] == pytest.approx(rms(x - truth), abs=2e-5)
            assert result.median[i, k] == pytest.approx(np.median(each), abs=2e-5)
    assert (
        (result.spent == torch.tensor(budgets)).all()
        and (result.seconds > 0).all()
        and result.finished == 6
    )
    assert result.method == "etd4 on logsnr, 200 evaluations" and not result.stochastic


def test_the_reference_grows_with_the_budgets(quick: None) -> None:
    result = flowsolve.compare(PLANE, solvers="ddim", nfe=20, n=2)
    assert "80 evaluations" in result.method
    assert (
        rms(
            result.reference
            - flowsolve.sample(PLANE, solver="etd4", grid="logsnr", nfe=80, n=2, seed=0)
        )
        == 0.0
    )


def test_starts_and_noise_are_those_of_the_seed(quick: None) -> None:
    solvers = ("ddim", "ddpm", "dpmpp2m")
    a = flowsolve.compare(PLANE, solvers=solvers, nfe=(3, 5), n=6, seed=4)
    b = flowsolve.compare(PLANE, solvers=solvers[::-1], nfe=(5, 3), n=3, seed=4)
    for key, x in b.samples.items():
        torch.testing.assert_close(a.samples[key][:3], x, rtol=0, atol=1e-12)
        torch.testing.assert_close(
            x, flowsolve.sample(PLANE, solver=key[0], nfe=key[1], n=3, seed=4), rtol=0, atol=0
        )
    other = flowsolve.compare(PLANE, solvers=solvers, nfe=5, n=6, seed=5)
    assert not torch.allclose(a.samples["ddim", 5], other.samples["ddim", 5])
    assert flowsolve.compare(PLANE, solvers="ddim", nfe=1, seed=None, n=1).seed != 0

    start = torch.randn(5, 2, dtype=F64)
    given = flowsolve.compare(PLANE, solvers=("ab3", "ddpm"), nfe=4, start=start, seed=4)
    for name in ("ab3", "ddpm"):
        assert torch.equal(
            given.samples[name, 4], flowsolve.sample(PLANE, solver=name, nfe=4, start=start, seed=4)
        )


def test_rows(quick: None) -> None:
    ddim, karras = flowsolve.solvers.DDIM, flowsolve.grids.Karras(rho=3.0)
    result = flowsolve.compare(
        PLANE,
        solvers=["ddim", ("ddim", "karras"), (ddim(), karras), ddim(eta=0.5)],
        nfe=6,
        n=2,
        grid="uniform",
    )
    assert result.solvers == ("ddim", "ddim, karras", f"ddim, {karras}", "DDIM(eta=0.5)")
    for label, grid in zip(result.solvers[:3], ("uniform", "karras", karras), strict=True):
        assert torch.equal(
            result.samples[label, 6],
            flowsolve.sample(PLANE, solver="ddim", nfe=6, n=2, seed=0, grid=grid),
        )
    named = flowsolve.compare(
        PLANE, solvers={"half": ddim(eta=0.5), "none": ddim()}, nfe=6, n=2, grid="uniform"
    )
    assert torch.equal(named.samples["half", 6], result.samples["DDIM(eta=0.5)", 6])
    assert named.stochastic == {"half"} and result.stochastic == {"DDIM(eta=0.5)"}


def test_a_plan_is_a_row_wherever_its_evaluations_fit(quick: None) -> None:
    plan = flowsolve.plan("unipc3", PLANE.process, nfe=6)
    tuned = {"mine": plan, "ddim": "ddim", "noisy": flowsolve.plan("ddpm", PLANE.process, nfe=4)}
    result = flowsolve.compare(PLANE, solvers=tuned, nfe=(5, 6, 9), n=3, grid="karras")
    expected = flowsolve.sample(PLANE, solver=plan, n=3, seed=0)
    assert result.cell(0, 0) == "over budget" and result.spent[0].tolist() == [6, 6, 6]
    for nfe in (6, 9):  # the grid of the others is not the plan's
        assert torch.equal(result.samples["mine", nfe], expected)
    assert result.spent[2].tolist() == [4, 4, 4] and result.stochastic == {"noisy"}
    assert flowsolve.compare(PLANE, solvers=plan, nfe=6, n=1).solvers == ("plan (6 evaluations)",)
    with pytest.raises(ValueError, match="grid='karras' cannot be given beside a plan"):
        flowsolve.compare(PLANE, solvers=[(plan, "karras")], nfe=6, n=1)
    again = pickle.loads(pickle.dumps(result))
    assert torch.equal(again.errors[:, 1:], result.errors[:, 1:]) and str(again) == str(result)


def test_numbers_of_other_libraries_are_budgets(quick: None) -> None:
    for nfe in (np.array([3, 5]), torch.tensor([3, 5]), [np.int64(3), np.uint8(5)]):
        result = flowsolve.compare(PLANE, solvers="ddim", nfe=nfe, n=np.int64(1), seed=0)
        assert result.nfe == (3, 5)
    assert flowsolve.compare(PLANE, solvers="ddim", nfe=np.int64(3), n=1).nfe == (3,)


def test_the_table_says_what_is_no_error() -> None:
    result = flowsolve.compare(PLANE, solvers=("ab3", "ddpm", "adaptive"), nfe=(5, 90), n=4)
    head, ab3, ddpm, adaptive, about, note = str(result).splitlines()
    assert head.split() == ["solver", "nfe=5", "nfe=90", "spent", "seconds"] and repr(
        result
    ) == str(result)
    number = r"\d[\d.e+-]* \(\d[\d.e+-]*\)"
    assert re.fullmatch(rf"ab3 +{number} +{number} +5, 90 +\d+\.\d\d", ab3)
    assert re.fullmatch(rf"ddpm \* +{number} +{number} +5, 90 +\d+\.\d\d", ddpm)
    assert re.fullmatch(
        rf"adaptive +over budget +{number} +5, {result.spent[2, 1]} +\d+\.\d\d", adaptive
    )
    assert (
        "4 samples, seed 0; reference: etd4 on logsnr, 360 evaluations" in about
        and note.startswith("* draws noise")
    )
    assert result.rmse[2, 0].isnan() and result.rmse[2, 1] < 1e-3 and result.rmse[1, 1] > 0.01


def test_a_solver_that_diverges_is_a_result() -> None:
    def net(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return x * torch.where((t == 0.5) & (torch.arange(len(x)) > 0), math.inf, 0.5)[:, None]

    model = flowsolve.Denoiser(net, PROCESSES["rectified_flow"], "velocity", (2,))
    solvers = {"bad": ("ddim", [1.0, 0.5, 0.0]), "good": ("ddim", [1.0, 0.6, 0.0])}
    result = flowsolve.compare(model, solvers=solvers, nfe=2, n=3, reference=torch.zeros(3, 2))
    assert (
        result.finished == 2
        and result.cell(0, 0) == "not finite"
        and result.cell(1, 0)[0].isdigit()
    )
    assert (
        result.errors[0, 0].isinf().tolist() == [False, True, True]
        and result.median[0, 0] == math.inf
    )
    with pytest.raises(flowsolve.NonFiniteError):
        flowsolve.compare(
            flowsolve.Denoiser(lambda x, t: x * math.nan, PROCESSES["vp"], "eps", (2,)),
            solvers="ddim",
            nfe=2,
        )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"solvers": ("ddim", "huen")},
            ValueError,
            "solver='huen' is not known. Did you mean 'heun'",
        ),
        ({"solvers": ()}, ValueError, "solvers is empty"),
        ({"solvers": 3}, TypeError, "solvers=3: expected names"),
        ({"solvers": ("ddim", "ddim")}, ValueError, "'ddim' is there twice"),
        ({"nfe": ()}, ValueError, "nfe is empty"),
        ({"nfe": (5, 0)}, ValueError, "nfe=0: expected a positive integer"),
        ({"nfe": 2.5}, TypeError, "nfe=2.5: expected a positive integer"),
        ({"nfe": True}, TypeError, "nfe=True: expected a positive integer"),
        ({"solvers": {5: "ddim"}}, TypeError, "solvers: the label 5 is no string"),
        ({"callback": 5}, TypeError, "callback=5: expected a function"),
        ({"nfe": "5,8"}, TypeError, "nfe='5,8': expected budgets"),
        ({"grid": "karas"}, ValueError, "Did you mean 'karras'"),
        ({"solvers": ("ddim", "dopri5"), "grid": "karras"}, ValueError, "cannot fill grid"),
        ({"n": 0}, ValueError, "n=0"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"start": torch.zeros(3)}, ValueError, r"start has shape \(3,\)"),
        ({"reference": torch.zeros(3, 2)}, ValueError, "reference has 3 samples; expected 16"),
        ({"reference": torch.zeros(16, 3)}, ValueError, r"reference has shape \(16, 3\)"),
    ],
)
def test_misuse_is_told_before_the_first_evaluation(
    arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    def net(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        raise AssertionError("evaluated")

    with pytest.raises(error, match=message):
        flowsolve.compare(flowsolve.Denoiser(net, PROCESSES["vp"], "eps", (2,)), **arguments)  # type: ignore[arg-type]


def test_the_callers_reference_and_callback() -> None:
    seen: list[flowsolve.Comparison] = []

    def stop(so_far: flowsolve.Comparison) -> bool:
        seen.append(so_far)
        return so_far.finished == 3

    truth = torch.zeros(4, 2, dtype=F64)
    result = flowsolve.compare(
        PLANE, solvers=("ddim", "heun"), nfe=(2, 4, 6), n=4, reference=truth, callback=stop
    )
    assert (
        [each.finished for each in seen] == [1, 2, 3]
        and result.finished == 3
        and result.method == "the caller's"
    )
    assert set(result.samples) == {
        ("ddim", 2),
        ("heun", 2),
        ("ddim", 4),
    }  # a budget is finished before the next begins
    assert result.rmse[0, 1] == pytest.approx(
        rms(flowsolve.sample(PLANE, solver="ddim", nfe=4, n=4, seed=0))
    )
    assert result.rmse[1, 1].isnan() and result.median[0, 2].isnan()
    assert (
        str(result).splitlines()[2].split()[:1] == ["heun"] and " - " in str(result).splitlines()[2]
    )
    assert seen[0].errors.isnan().sum() == 20  # what was seen is not changed by what comes after


def flat_pictures() -> flowsolve.exact.Empirical:
    return flowsolve.exact.Empirical(
        flowsolve.VP.cosine(),
        torch.stack([torch.full((1, 8, 8), -1.0), torch.full((1, 8, 8), 1.0)]),
    )


def count(page: np.ndarray, tile: np.ndarray) -> int:
    """How often a picture occurs in another."""
    h, w, _ = tile.shape
    corners = np.lib.stride_tricks.sliding_window_view(page[:, :, 0], (6, 6))
    found = zip(*(corners == tile[:6, :6, 0]).all((2, 3)).nonzero(), strict=True)
    return sum(bool(np.array_equal(page[y : y + h, x : x + w], tile)) for y, x in found)


def test_picture_and_plot(tmp_path: Path, quick: None) -> None:
    model = flowsolve.exact.Gaussian(flowsolve.VP.cosine(), torch.zeros(1, 8, 8), 0.3)
    result = flowsolve.compare(model, solvers=("ddim", "ddpm"), nfe=(2, 5), n=6)
    result.picture(tmp_path / "a.png")
    result.plot(tmp_path / "b.svg")
    with Image.open(tmp_path / "a.png") as page:
        pixels = np.asarray(page)
        assert 800 < page.width < 1700 and 200 < page.height < 400

    def shown(x: torch.Tensor) -> np.ndarray:
        return np.asarray(pictures.sheet(x[:4], columns=4).convert("RGB"))

    assert count(pixels, shown(result.reference)) == 2  # at the end of each row
    assert all(count(pixels, shown(x)) == 1 for x in result.samples.values())
    assert b"<svg" in (tmp_path / "b.svg").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.svg"]
    with pytest.raises(ValueError, match=r"'.*a\.xyz': expected a name ending in one of \.png"):
        result.picture(tmp_path / "a.xyz")
    with pytest.raises(ValueError, match="no such directory"):
        result.plot(tmp_path / "none" / "b.png")
    plane = flowsolve.compare(PLANE, solvers="ddim", nfe=2, n=1)
    with pytest.raises(ValueError, match=r"samples of shape \(2,\) are not pictures"):
        plane.picture(tmp_path / "c.png")
    plane.plot(str(tmp_path / "c.png"))
    with Image.open(tmp_path / "c.png") as plot:
        assert len(plot.convert("RGB").getcolors(1 << 20)) > 100


def test_pictures_of_what_there_is(tmp_path: Path) -> None:
    """A row that is not finished, a cell that is not finite, one sample, one budget: none of it is
    in the way."""
    data = torch.zeros(1, 3, 70, 90, dtype=F64)
    model = flowsolve.exact.Empirical(PROCESSES["vp"], data)
    for solvers in (("ddim", "dopri5"), ("dopri5", "ddim")):
        result = flowsolve.compare(
            model, solvers=solvers, nfe=(3,), n=1, reference=data, callback=lambda so_far: True
        )
        assert result.finished == 1
        result.picture(tmp_path / "a.png")
        result.plot(tmp_path / "b.png")
    with Image.open(tmp_path / "a.png") as page:
        assert len(page.convert("RGB").getcolors(1 << 20)) > 5


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch, quick: None, tmp_path: Path) -> None:
    """The commands in an empty folder, with two flat pictures for the digits model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(digits, "digits", lambda **_: flat_pictures())


def test_the_command_on_the_shipped_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measure, "REFERENCE_NFE", 30)
    argv = [
        "compare",
        "--solvers",
        "ddim, ab3",
        "--nfe",
        "2,4",
        "-n",
        "3",
        "--seed",
        "1",
        "--grid",
        "karras",
        "--label",
        "3",
    ]
    assert main([*argv, "-o", "a.png", "--plot", "b.png"]) == 0
    out, err = capsys.readouterr()
    expected = flowsolve.compare(
        flowsolve.digits(label=3), solvers=("ddim", "ab3"), nfe=(2, 4), n=3, seed=1, grid="karras"
    )
    for row in (0, 1):
        assert expected.cell(row, 1) in out.splitlines()[row + 1]
    assert (
        out.splitlines()[-1].startswith("4 runs in ")
        and out.endswith("a.png and b.png\n")
        and err == ""
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_the_defaults_of_the_command(shipped: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["compare", "-q"]) == 0
        and Path("compare.png").stat().st_size > 0
        and capsys.readouterr().out == ""
    )
    assert main(["compare", "--progress", "-n", "1"]) == 0
    out, err = capsys.readouterr()
    assert f"{4 * 4} runs" in out and "/17 [" in err
    with pytest.raises(SystemExit):
        main(["compare", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert f"(default: {','.join(comparison.DEFAULT_SOLVERS)})" in text
    assert f"(default: {','.join(map(str, comparison.DEFAULT_BUDGETS))})" in text


MINE = """
import torch, flowsolve
net = torch.nn.Linear(2, 2)
broken = 1

def plane(): return flowsolve.exact.Gaussian(flowsolve.VP(), torch.zeros(2), 0.3)

tiles = flowsolve.exact.Gaussian(flowsolve.EDM(), torch.zeros(3, 4, 4), 0.3)

def fails(): raise ValueError("not today")
"""


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--solvers", "ddim,huen"], "Did you mean 'heun'"),
        (["--solvers", "ddim,,heun"], "names with commas"),
        (["--solvers", "ddim,ddim"], "twice"),
        (["--grid", "karas"], "Did you mean 'karras'"),
        (["--nfe", "5,x"], "'x' is not a positive integer"),
        (["--nfe", "5,0"], "'0' is not a positive integer"),
        (["-n", "0"], "positive integer"),
        (["-o", "a.xyz"], "one of .png"),
        (["--plot", "a.xyz"], ".svg"),
        (["--plot", "no/such/place.png"], "no such directory"),
        (["--model", "mine.py"], "expected module:name, file.py:name"),
        (["--model", "yours.py:net"], "there is no file yours.py"),
        (["--model", "yours:net"], "No module named 'yours'"),
        (["--model", "mine.py:other"], "has no 'other'"),
        (["--model", "mine.py:net"], "is a Linear; expected a flowsolve.Denoiser"),
        (["--model", "mine.py:broken"], "is a int; expected a flowsolve.Denoiser"),
        (["--model", "mine.py:plane", "--label", "3"], "--label is for a shipped model"),
        (
            ["--model", "mine.py:plane", "-o", "a.png"],
            "samples of shape (2,) are not pictures; use --plot",
        ),
    ],
)
def test_bad_usage_is_one_line_and_status_2(
    argv: list[str], message: str, shipped: None, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.py").write_text(MINE)
    assert main(["compare", *argv]) == 2
    out, err = capsys.readouterr()
    assert (
        err.startswith("flowsolve: error: ")
        and err.count("\n") == 1
        and message in err
        and out == ""
    )
    assert [p.name for p in Path().iterdir() if p.is_file()] == ["mine.py"]


def test_your_own_model(
    shipped: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    Path("mine_of_the_test.py").write_text(MINE)
    small = ["--nfe", "2", "--solvers", "ddim", "-n", "2"]
    for where in ("mine_of_the_test.py:plane", "mine_of_the_test:plane"):
        assert main(["compare", "--model", where, *small]) == 0
    assert main(["compare", "--model", "mine_of_the_test:tiles", *small]) == 0
    assert sorted(p.name for p in Path().iterdir()) == ["compare.png", "mine_of_the_test.py"]
    assert (
        main(["sample", "--model", "mine_of_the_test:plane", "--save-tensor", "x.npy", "-n", "3"])
        == 0
    )
    assert np.load("x.npy").shape == (3, 2) and not Path("samples.png").exists()
    assert (
        main(["sample", "--model", "mine_of_the_test:tiles", "-n", "3"]) == 0
        and Path("samples.png").exists()
    )
    capsys.readouterr()
    assert main(["sample", "--model", "mine_of_the_test:plane"]) == 2
    assert (
        main(["sample", "--model", "mine_of_the_test:fails"]) == 1
    )  # the user's code, not the user's arguments
    assert [line[:60] for line in capsys.readouterr().err.splitlines()] == [
        "flowsolve: error: samples of shape (2,) are not pictures: sa",
        "flowsolve: error: not today",
    ]


STOPS = [
    (KeyboardInterrupt(), 130, "interrupted"),
    (RuntimeError("out of paper"), 1, "out of paper"),
]


@pytest.mark.parametrize(("stop", "status", "last"), STOPS)
@pytest.mark.parametrize("after", [0, 3])
def test_what_is_finished_is_written(
    stop: BaseException,
    status: int,
    last: str,
    after: int,
    shipped: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls = 0

    def net(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls > 16 + 4 * after:  # of the reference, and of a run
            raise stop
        return elementwise(x, t)

    monkeypatch.setattr(
        digits, "digits", lambda **_: flowsolve.Denoiser(net, flowsolve.VP(), shape=(1, 8, 8))
    )
    assert (
        main(
            [
                "compare",
                "--solvers",
                "ddim,ab2,heun,rk4",
                "--nfe",
                "4",
                "-n",
                "2",
                "--plot",
                "b.png",
            ]
        )
        == status
    )
    out, err = capsys.readouterr()
    assert last in err.splitlines()[-1]
    if after == 0:
        assert out == "" and list(Path().iterdir()) == []
    else:
        assert "3 of 4 runs were finished, compare.png and b.png" in err
        assert out.splitlines()[4].split()[:2] == ["rk4", "-"] and "(" in out.splitlines()[3]
        assert sorted(p.name for p in Path().iterdir()) == ["b.png", "compare.png"]


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("name", MATRIX_PROCESSES)
def test_the_reference_where_a_and_r_are_matrices(name):
    model = matrix_mixture(name)
    table = flowsolve.compare(model, solvers=("ddim", "gddim"), nfe=5, n=8, seed=0)
    assert table.method == "unipc3 on quadratic, 200 evaluations" and table.stochastic == {"gddim"}
    end = flowsolve.sample(model, solver="scipy:DOP853", rtol=1e-12, atol=1e-13, n=8, seed=0)
    assert rms(table.reference - end) < 1e-5
