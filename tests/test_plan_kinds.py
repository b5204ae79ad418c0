"""Plan files that are JSON and no plan: kinds of operators that do not go together, keys that are
too many, and numbers that are none. All are found by load, which says where."""

import copy
import json
import random

import pytest
from problems import MATRIX_PROCESSES, PROCESSES

import flowsolve
from flowsolve.plans import Plan

PLANS = {
    "number": flowsolve.plan("ddpm", PROCESSES["vp"], nfe=3),
    "block": flowsolve.plan("gddim", MATRIX_PROCESSES["cld"], nfe=3),
    "dct": flowsolve.plan("ab3", MATRIX_PROCESSES["blurring"], nfe=3),
}


def written(kind, path):
    PLANS[kind].save(path)
    return json.loads(path.read_text())


def refused(path, text, message):
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        Plan.load(path)
    assert str(path) in str(caught.value)


BLOCK, PICTURE = {"block": [[1.0, 0.0], [0.0, 1.0]]}, {"dct": [[1.0, 2.0]]}


@pytest.mark.parametrize(
    ("kind", "operator", "message"),
    [
        ("number", BLOCK, "a block of 2 by 2 numbers is there with a number at the start"),
        ("number", PICTURE, "a dct of 1 by 2 numbers is there with a number"),
        ("block", 1.0, "a number is there with a block"),
        ("dct", PICTURE, "a dct of 1 by 2 numbers is there with a dct of 2 by 3 numbers"),
        ("dct", {"dct": [1.0]}, r"\[1.0\] is not a rectangle"),
        ("dct", {"dct": 1.0}, "1.0 is not a rectangle"),
        ("dct", {"dct": [[1.0], [1.0, 2.0]]}, "is not a rectangle of numbers"),
        ("dct", {"dct": []}, "is not a rectangle"),
        ("block", {"block": [1.0]}, "is not a 2x2 matrix"),
        ("block", {"block": BLOCK["block"], "dct": [[1.0]]}, "is not a finite number"),
        ("number", {"numbre": 1.0}, "is not a finite number"),
        ("number", 1e300, "1e.300 is no number of float32"),
    ],
)
def test_operators_of_another_kind(kind, operator, message, tmp_path):
    for place in ("level", "sum", "arrive"):
        whole = written(kind, tmp_path / "plan.json")
        lines = whole["program"]
        n = next(k for k, line in enumerate(lines) if k and place in line)
        if place == "sum":
            lines[n]["sum"][next(iter(lines[n]["sum"]))] = operator
        else:
            lines[n]["level"]["R"] = operator
        refused(tmp_path / "plan.json", json.dumps(whole), rf"program\[{n}\]: .*{message}")


@pytest.mark.parametrize("kind", PLANS)
def test_keys_that_have_no_place(kind, tmp_path):
    whole, path = written(kind, tmp_path / "plan.json"), tmp_path / "plan.json"
    refused(path, json.dumps({**whole, "more": 1}), "there is no place for 'more'")
    for n, line in enumerate(whole["program"]):
        lines = copy.deepcopy(whole["program"])
        lines[n]["more"] = 1
        refused(path, json.dumps({**whole, "program": lines}), rf"program\[{n}\]: .*'more': 1")
        if "level" in line:
            lines = copy.deepcopy(whole["program"])
            lines[n]["level"]["more"] = 1
            text = json.dumps({**whole, "program": lines})
            refused(path, text, rf"program\[{n}\]: .* is not a level")


def test_keys_that_are_there_twice(tmp_path):
    path = tmp_path / "plan.json"
    written("number", path)
    text = path.read_text()
    for old, new in (
        ('"version": 1', '"version": 1, "version": 1'),
        ('"coordinates": "noise"', '"coordinates": "data", "coordinates": "noise"'),
        ('{"t"', '{"A": 2.0, "t"'),
    ):
        assert old in text
        refused(path, text.replace(old, new, 1), "is 2 times in one of its objects")


@pytest.mark.parametrize("version", ["true", "1.0", '"1"', "null", "[1]"])
def test_other_versions(version, tmp_path):
    path = tmp_path / "plan.json"
    written("number", path)
    text = path.read_text().replace('"version": 1', f'"version": {version}')
    refused(path, text, "it has version ")


def test_paths_that_are_none(tmp_path):
    for path in (5, None, True):
        with pytest.raises(TypeError, match="path="):
            Plan.load(path)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="path="):
            PLANS["number"].save(path)  # type: ignore[arg-type]


ODD = [True, 1.0, 0, -1, None, "x1", "inf", [], [1.0], {}, BLOCK, PICTURE, {"number": 1.0}, 1e-300]
ODD += [0.0, "x2", "p1", {"t": 0.5, "A": 1.0, "R": 0.0}, 10**30]


def places(node, way=()):
    if way:
        yield way
    if isinstance(node, (dict, list)):
        for key in node if isinstance(node, dict) else range(len(node)):
            yield from places(node[key], (*way, key))


@pytest.mark.parametrize("kind", PLANS)
def test_whatever_is_loaded_can_be_used(kind, tmp_path):
    """One odd value anywhere: refused with a ValueError, or a plan that prints and compares."""
    whole, path, draw = (
        written(kind, tmp_path / "plan.json"),
        tmp_path / "plan.json",
        random.Random(0),
    )
    ways, loaded = [*places(whole)], 0
    for way in draw.choices(ways, k=150):
        other = copy.deepcopy(whole)
        node = other
        for key in way[:-1]:
            node = node[key]
        node[way[-1]] = draw.choice(ODD)
        path.write_text(json.dumps(other))
        try:
            plan = Plan.load(path)
        except ValueError as error:
            assert str(path) in str(error)
            continue
        loaded += 1
        assert str(plan) and plan == Plan.load(path) and (plan == PLANS[kind]) in (True, False)
    assert loaded > 0
