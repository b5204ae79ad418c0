"""The sweeps, of which most runs take a sample, ran whole on the code that is here and passed."""

import json

import pytest
from sweeps import FULL, RARE, code

AGAIN = "run 'make full' and commit tests/full.json"
SWEEP = """
import pytest

@pytest.mark.sweep(keep={keep})
@pytest.mark.parametrize("a", range(12))
@pytest.mark.parametrize("b", "xyz")
def test_sweep(a, b): ...

@pytest.mark.slow
def test_slow(): ...

@pytest.mark.late
def test_late(): ...
"""


def test_every_sweep_ran_whole_and_passed(request):
    if request.config.option.full:
        pytest.skip("this run writes it")
    assert FULL.exists(), f"tests/full.json is missing: {AGAIN}"
    results = json.loads(FULL.read_text())
    for file, functions in request.config.stash[RARE].items():
        assert file in results, f"{file} has sweeps that never ran whole: {AGAIN}"
        assert results[file]["code"] == code(file), f"{file} or problems.py is another: {AGAIN}"
        missing = functions - set(results[file]["sweeps"])
        assert not missing, f"{file}: {', '.join(sorted(missing))} never ran whole: {AGAIN}"
    for file, of_file in results.items():
        for function, counts in of_file["sweeps"].items():
            assert not counts["failed"], f"{file}::{function} has failures: mend it, then {AGAIN}"


@pytest.fixture
def names(pytester, monkeypatch):
    """The node ids that a run with these arguments takes, of a file with a sweep."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # what is installed imports torch

    def collect(*arguments, keep=15):
        pytester.makeini("[pytest]\nmarkers =\n  sweep(keep)\n  slow\n  late\n")
        pytester.makepyfile(SWEEP.format(keep=keep))
        result = pytester.runpytest_inprocess(
            "-p", "xdist", "-p", "sweeps", "-v", "-n0", *arguments
        )
        assert result.ret == 0
        return {word for line in result.outlines for word in line.split() if "::" in word}

    return collect


def values(found):
    return {part for name in found for part in name.split("[")[1].rstrip("]").split("-")}


@pytest.mark.parametrize(("keep", "size"), [(15, 15), (0.4, 15), (100, 36)])
def test_a_sample_has_its_size_and_every_value(names, keep, size):
    found = names(keep=keep)
    assert len(found) == size and values(found) == {*map(str, range(12)), *"xyz"}


def test_a_seed_is_a_sample(names):
    first, again, other = (names(f"--sweep-seed={seed}") for seed in (1, 1, 2))
    assert first == again != other


def test_processes_draw_the_same_sample(names):
    """xdist fails where they do not."""
    assert len(names("-n2")) == 15


def test_what_is_late_is_left_to_those_who_ask_for_it(names):
    assert {name.split("::")[1] for name in names("--late")} == {"test_late"}


def test_what_is_asked_for_by_name_is_not_sampled_away(names, request):
    file = f"{request.node.name}.py"
    assert len(names("-k", "sweep")) == 36 and len(names("-k", "slow")) == 1
    assert len(names(f"{file}::test_sweep")) == 36 and len(names(f"{file}::test_slow")) == 1


def test_the_size_of_a_sample_is_no_part_of_the_code(tmp_path, monkeypatch):
    monkeypatch.setattr("sweeps.HERE", tmp_path)
    (tmp_path / "problems.py").write_text("")

    def hashed(text):
        (tmp_path / "test_a.py").write_text(text)
        return code("test_a.py")

    text = SWEEP.format(keep=15)
    marks = ("@pytest.mark.slow\n", "@pytest.mark.late\n")
    same = SWEEP.format(keep=0.4), *(text.replace(mark, "") for mark in marks)
    assert {hashed(text), *map(hashed, same)} == {hashed(text)}
    assert hashed(text) != hashed(text.replace("range(12)", "range(13)"))
