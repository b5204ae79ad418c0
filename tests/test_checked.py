"""Arguments are read by their annotations: numbers of any library, and refusals that name them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

import flowsolve
from flowsolve.checked import Count, Extended, Fraction, Must, Natural, Positive, checked, read
from flowsolve.typing import Float

INTEGERS = [5, np.int64(5), np.uint8(5), np.array(5), torch.tensor(5), torch.tensor(5).short()]
NUMBERS = [*INTEGERS, 5.0, np.float64(5), np.float32(5), np.float16(5), torch.tensor(5.0).half()]
NUMBERS += [torch.tensor(5.0, requires_grad=True), np.array(5.0)]


@pytest.mark.parametrize(
    ("hint", "values", "kind"),
    [
        (int, INTEGERS, int),
        (Count | None, INTEGERS, int),
        (float, NUMBERS, float),
        (Positive, NUMBERS, float),
        (bool, [True, np.True_, torch.tensor(True)], bool),
    ],
)
def test_numbers_of_any_library_are_numbers(hint, values, kind):
    for value in values:
        got = read("k", value, hint)
        assert type(got) is kind and got == kind(5)


@pytest.mark.parametrize(
    ("hint", "value", "error", "message"),
    [
        (int, 2.5, TypeError, "k=2.5: expected an integer"),
        (int, True, TypeError, "k=True: expected an integer"),
        (int, np.True_, TypeError, "expected an integer"),
        (int, torch.tensor(True), TypeError, "expected an integer"),
        (int, torch.tensor([5]), TypeError, "k=<Tensor torch.int64 of shape (1,)>: expected"),
        (int, torch.tensor(5, device="meta"), TypeError, "expected an integer"),
        (int, "5", TypeError, "k='5': expected an integer"),
        (Count, 0, ValueError, "k=0: expected a positive integer"),
        (Natural, -1, ValueError, "k=-1: expected an integer >= 0"),
        (Natural | None, -1, ValueError, "k=-1: expected an integer >= 0 or None"),
        (float, float("nan"), ValueError, "k=nan: expected a finite number"),
        (float, np.float32("inf"), ValueError, "expected a finite number"),
        (float, 10**400, ValueError, "expected a finite number"),
        (float, 1j, TypeError, "k=1j: expected a finite number"),
        (float, torch.tensor(1j), TypeError, "expected a finite number"),
        (float, True, TypeError, "k=True: expected a finite number"),
        (Positive, float("inf"), ValueError, "k=inf: expected a positive number"),
        (Extended, float("nan"), ValueError, "k=nan: expected a number >= 0, or inf"),
        (Fraction, 1.5, ValueError, "k=1.5: expected a number from 0 to 1"),
        (bool, "false", TypeError, "k='false': expected True or False"),
        (bool, 1, TypeError, "k=1: expected True or False"),
        (str, b"x", TypeError, "k=b'x': expected a string"),
        (Callable[[int], int], 5, TypeError, "k=5: expected a function"),
        (Float[Tensor, "n"], [1.0], TypeError, "k=[1.0]: expected a tensor"),
        (Mapping[str, Any], 5, TypeError, "k=5: expected a dictionary"),
        (Literal["path", "x0"], "paht", ValueError, "k='paht' is not known. Did you mean 'path'"),
        (Literal["path", "x0"], 5, TypeError, "k=5: expected one of 'path', 'x0'"),
        (Sequence[float], 5, TypeError, "k=5: expected a sequence, each a finite number"),
        (Sequence[float], "12", TypeError, "k='12': expected a sequence"),
        (Sequence[float], [1.0, "a"], TypeError, "k[1]='a': expected a finite number"),
        (tuple[Count, ...], (3, 0), ValueError, "k[1]=0: expected a positive integer"),
        (tuple[float, float], (1.0,), ValueError, "expected a pair, each a finite number"),
        (list[tuple[int, int]], [(1, 2), (1, 2.5)], TypeError, "k[1][1]=2.5: expected an integer"),
        (float | Callable[..., Any], "x", TypeError, "expected a finite number or a function"),
        (flowsolve.VP, "vp", TypeError, "k='vp': expected a"),
    ],
)
def test_what_cannot_be_is_refused_by_name(hint, value, error, message):
    with pytest.raises(error) as caught:
        read("k", value, hint)
    assert message in str(caught.value) and str(caught.value).startswith("k")


def test_sequences_are_tuples_of_what_was_read():
    for hint in (Sequence[float], Iterable[float], tuple[float, ...]):
        for value in ([1, 2], (1, 2), np.array([1, 2]), torch.tensor([1, 2]), range(1, 3)):
            assert read("k", value, hint) == (1.0, 2.0)
    assert read("k", iter([1, 2]), Iterable[float]) == (1.0, 2.0)
    assert read("k", float("inf"), Extended) == float("inf")


@checked
@dataclass(frozen=True)
class Part:
    size: Positive
    odd: Annotated[int, Must(lambda v: v % 2 == 1, "an odd number")] = 1


@checked
@dataclass(frozen=True)
class Whole(Part):
    name: str = "whole"


@checked
def function(x: float, *rest: Any, part: Part | None = None, **options: Any) -> Any:
    """A function."""
    return x, rest, part, options


def test_functions_and_dataclasses():
    wrong: Any = Whole
    call_wrong: Any = function
    assert wrong(torch.tensor(2), odd=np.int64(3)) == Whole(2.0, 3, "whole")
    assert str(inspect.signature(Whole)).startswith("(size: 'Positive', odd:")
    assert call_wrong(np.float32(1), 2, part=Part(1.0), y=3) == (1.0, (2,), Part(1.0), {"y": 3})
    assert function.__doc__ == "A function."
    for call, message in (
        (lambda: wrong(-1), "size=-1: expected a positive number"),
        (lambda: wrong(1.0, odd=2), "odd=2: expected an odd number"),
        (lambda: replace(wrong(1.0), name=3), "name=3: expected a string"),
        (lambda: wrong(1.0, od=3), "argument='od' is not known. Did you mean 'odd'"),
        (lambda: call_wrong("x"), "x='x': expected a finite number"),
        (lambda: call_wrong(1.0, part=3), "part=3: expected a Part or None"),
    ):
        with pytest.raises((TypeError, ValueError)) as caught:
            call()
        assert message in str(caught.value)
