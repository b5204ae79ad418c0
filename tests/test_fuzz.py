"""Every argument of every public callable, odd: answered right, or refused in a sentence."""

from __future__ import annotations

import functools
import inspect
import math
import random
import signal
import time
import warnings
from typing import Any

import fuzzing
import odd
import pytest
import sweeps
import torch
from fuzzing import Call

import flowsolve
from flowsolve.readers import Later, anything, reader

#: Calls in a sample.
SAMPLE = 1500
PARTS = 32

SIGNALS = pytest.mark.skipif(
    not hasattr(signal, "setitimer"), reason="nothing here stops a call that hangs"
)

calls = functools.cache(fuzzing.calls)


@pytest.mark.sweep(keep=1.0)
@pytest.mark.parametrize("part", range(PARTS))
def test_odd_calls_are_answered(
    part: int, request: pytest.FixtureRequest, record_property: Any
) -> None:
    """A sample of the calls, in ``--full`` all: more than 99 of 100 are answered. What is not is
    made again by the line it prints."""
    config = request.config
    drawn = calls()
    assert len(drawn) >= 5000
    if not sweeps.whole(config):
        drawn = random.Random(config.option.sweep_seed).sample(drawn, SAMPLE)
    answers = [(call, *fuzzing.judge(call)) for call in drawn[part::PARTS]]
    record_property("tried", fuzzing.counted(answers))
    print(fuzzing.report(answers))
    bad = [f"{kind}: {call}\n    {said}" for call, kind, said in answers if kind in fuzzing.BAD]
    print(told := "\n".join([f"{len(bad)} of {len(answers)} are not answered:", *bad]))
    assert len(bad) <= math.ceil(len(answers) / 100), told


def test_every_public_callable_is_called() -> None:
    """What is public, takes arguments and is not left out for a reason."""
    called = {name.rpartition(".")[2] for name in fuzzing.public()}
    assert {name for name in exported() if name not in called} == odd.NOT_CALLED & exported()


def exported() -> set[str]:
    """The names that modules export, of what takes arguments."""
    modules = (*odd.MODULES.values(), flowsolve)
    found = ((name, getattr(m, name)) for m in modules for name in getattr(m, "__all__", ()))
    return {n for n, v in found if fuzzing.called(v) and inspect.signature(v).parameters}


#: What reads arguments by itself, since it is asked at each step, or for what no annotation says.
READ_INSIDE = {
    "at, level, time_of: of the process's own range": ("at", "level", "time_of"),
    "at each evaluation, the quick way": ("coefficients", "input_scale", "target"),
    "levels and their makers": ("Level", "Levels", "numbers", "levels"),
    "numbers of a law, states of it": ("Dirac", "Empirical", "Gaussian", "Mixture", "__call__"),
    "objects or their names": ("find_grid", "find_parametrization"),
    "an object of another library": ("lucidrains",),
    "what a network returned, and what is put in a state's place": ("tell", "replace"),
}


def test_every_argument_is_read() -> None:
    """By its annotation; what is read elsewhere says where, or is listed here."""
    found = {label.rpartition(".")[2] for label, _ in unread()}
    assert found == {name for names in READ_INSIDE.values() for name in names}


def unread() -> list[tuple[str, str]]:
    """Arguments that :func:`flowsolve.checked.checked` does not read."""
    found = []
    for label, function in fuzzing.public().items():
        called = function.__init__ if inspect.isclass(function) else function
        known = fuzzing.hints(function) if getattr(called, "__checked__", False) else {}
        for name, each in inspect.signature(function).parameters.items():
            hint = known.get(name, Any)
            later = any(isinstance(part, Later) for part in getattr(hint, "__metadata__", ()))
            named = each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
            if named and not later and reader(hint).read is anything:
                found.append((label, name))
    return found


@pytest.mark.parametrize("label", [*fuzzing.public()])
def test_good_calls_are_right(label: str) -> None:
    """The calls that the odd values are put into: were they refused, everything would be."""
    line = fuzzing.good_call(label)
    if label.endswith((").time_of", ").at")) and "VP" not in label:
        pytest.skip("a process of matrices has no such level")
    assert fuzzing.judge(Call(label, "", "", line)) == ("right", "")


def endless(n: Any = None) -> None:
    while True:
        time.time()


@pytest.mark.parametrize(
    ("answer", "may", "kind"),
    [
        (lambda n: 1.0, True, "right"),
        (lambda n: 1.0, False, "accepted"),
        (lambda n: torch.tensor([1.0, torch.nan]), True, "not finite"),
        (lambda n: float("nan"), True, "not finite"),
        (lambda n: {"x": [torch.zeros(2, device="meta")]}, True, "not finite"),
        (lambda n: [][1], True, "raw IndexError"),
        (lambda n: torch.ones(2) @ torch.ones(3), True, "raw RuntimeError"),
        (lambda n: int("n"), True, "raw ValueError"),
        (lambda n: flowsolve.clip(1.0, -1.0), True, "unnamed"),
        (lambda n: flowsolve.sample(odd.MODEL, n=0), True, "refused"),
        (lambda n: warnings.warn("n", UserWarning, stacklevel=1), True, "warning"),
        pytest.param(endless, True, "hang", marks=SIGNALS),
    ],
)
def test_the_judge_tells_them_apart(
    answer: Any, may: bool, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzzing, "LIMIT", 0.1)
    monkeypatch.setattr(odd, "answer", answer, raising=False)
    assert fuzzing.judge(Call("answer", "n", "...", "answer(n=...)", "", may))[0] == kind
    assert (kind in fuzzing.BAD) == (kind not in ("right", "refused"))


def test_another_spelling_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(odd, "answer", lambda n: n + (type(n) is not int), raising=False)
    for given, kind in (("3", "right"), ("np.int64(3)", "differs")):
        assert fuzzing.judge(Call("answer", "n", given, f"answer({given})", "answer(3)"))[0] == kind
