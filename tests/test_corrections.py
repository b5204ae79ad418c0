"""Corrections of x̂0: sizes of any number of entries, and what is refused."""

import math

import numpy as np
import pytest
import torch
from problems import F64, PROCESSES

import flowsolve
from flowsolve import corrections

LEVEL = PROCESSES["vp"].level(0.5)


@pytest.mark.parametrize("q", [1e-9, 0.1, 0.5, 0.77, 0.995, 0.9999, 1.0])
@pytest.mark.parametrize("k", [1, 2, 13, 3072])
def test_long_rows_have_the_same_quantile(q, k, monkeypatch):
    rows = torch.randn(3, k, dtype=F64, generator=torch.Generator().manual_seed(k)).abs()
    want = torch.quantile(rows, q, dim=1)
    monkeypatch.setattr(corrections, "LONGEST", 0)
    torch.testing.assert_close(corrections._quantile(rows, q), want, rtol=1e-15, atol=0)
    single = corrections._quantile(rows.float(), q)  # torch's rank is rounded to float32 there
    torch.testing.assert_close(single, want.float(), rtol=1e-4, atol=0)


def test_samples_of_more_than_two_to_the_24_entries():
    """0, 1, 2, ...: the quantile of an arithmetic progression is known."""
    entries = 2**24 + 4
    x0 = torch.arange(entries, dtype=torch.int32).to(torch.float64).view(1, 4, -1)
    out = flowsolve.dynamic_threshold(0.75)(x0, LEVEL)
    size = 0.75 * (entries - 1)
    assert out.max() == 1.0 and out[0, 0, 1].item() == pytest.approx(1.0 / size, rel=1e-14)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: flowsolve.clip(1.0, 1.0), ValueError, "expected low < high, got low=1.0"),
        (lambda: flowsolve.clip(math.nan), ValueError, "low=nan"),
        (lambda: flowsolve.clip("a"), TypeError, "low='a'"),
        (lambda: flowsolve.clip(hihg=1.0), TypeError, "Did you mean 'high'"),
        (lambda: flowsolve.dynamic_threshold(0.0), ValueError, "quantile=0.0: expected a number"),
        (lambda: flowsolve.dynamic_threshold(1.5), ValueError, "quantile=1.5"),
        (lambda: flowsolve.dynamic_threshold(least=0), ValueError, "least=0: expected a positive"),
        (lambda: flowsolve.dynamic_threshold(least=math.inf), ValueError, "least=inf"),
        (lambda: flowsolve.dynamic_threshold(True), TypeError, "quantile=True"),
    ],
)
def test_what_cannot_be_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_numbers_of_any_library():
    x0 = torch.linspace(-3.0, 3.0, 12).view(2, 6)
    for make in (np.float64, np.float32, torch.tensor):
        pairs = (
            (flowsolve.clip(make(-0.5), make(0.5)), flowsolve.clip(-0.5, 0.5)),
            (flowsolve.dynamic_threshold(make(0.5)), flowsolve.dynamic_threshold(0.5)),
        )
        for ours, plain in pairs:
            assert torch.equal(ours(x0, LEVEL), plain(x0, LEVEL))
