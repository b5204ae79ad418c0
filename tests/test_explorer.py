"""The page "What does a step hold?": what it shows is what flowsolve computes.

docs/_ext/explorer_data.py makes its data; docs/_static/explorer_player.js plays them, here in node.
"""

from __future__ import annotations

import gzip
import html
import itertools
import json
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import torch

import flowsolve
from flowsolve.plans import Plan
from flowsolve.plans.files import loads

pytest.importorskip("sphinx", reason="the page is made by an extension of sphinx")
DOCS = Path(__file__).parent.parent / "docs"
sys.path.append(str(DOCS / "_ext"))
import explorer  # noqa: E402  # pyright: ignore[reportMissingImports]
import explorer_data  # noqa: E402  # pyright: ignore[reportMissingImports]

#: Of a run's end: states are about one there, plans are written with 14 digits.
TOLERANCE = 1e-11

PLAY = """
const play = (program, law) => D.starts.map((z, i) =>
    Player.play(program, D.top * z, law, D.noises.map((draw) => draw[i])).x);
return given.map(([name, solver, k, law, change]) => {
    const [shape, numbers] = D.plans[name][solver][k];
    const changed = numbers.map((v, i) => i === change ? v * (1 + 1e-8) : v);
    return play(Player.unpack(D, [shape, changed]), D.data[law]);
});
"""


@pytest.fixture(scope="module", autouse=True)
def node() -> str:
    try:
        return explorer_data.node()
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """The data, as they stand in the page."""
    scripts = re.findall(
        r'<script type="application/json">(.*?)</script>', explorer.markup(), re.DOTALL
    )
    assert len(scripts) == 1
    return json.loads(scripts[0])


def ends(
    law: str, solver: str, process: str, grid: str, n: int, eta: float, **how: Any
) -> torch.Tensor:
    """Where flowsolve's runs end, with what the page starts from and draws."""
    on = explorer_data.PROCESSES[process].process
    z = torch.tensor(explorer_data.STARTS, dtype=torch.float64)[:, None]
    if eta:
        noises = torch.tensor(explorer_data.noises(), dtype=torch.float64)[..., None]
        how |= {"eta": eta, "noise": noises}
    run = flowsolve.solve(
        explorer_data.LAWS[law].model(on),
        solver=solver,
        start=on.at("sigma", explorer_data.TOP).R.value * z,
        **explorer_data.arguments(solver, process, grid, n),
        **how,
    )
    assert run.nfe == n
    return run.x[:, 0]


@pytest.mark.parametrize("name", explorer_data.sets())
def test_every_plan_ends_where_flowsolve_does(page: dict[str, Any], name: str) -> None:
    """Each stored plan, on one law after another; those that all processes share, on one process
    after another, whose own solve() they are compared with."""
    members = explorer_data.sets()[name]
    assert {*page["plans"][name]} == {f"{solver} {eta:g}" for solver, _, _, eta in members}
    asked, runs = [], []
    for i, ((solver, process, grid, eta), (k, n)) in enumerate(
        itertools.product(members, enumerate(explorer_data.COUNTS))
    ):
        law = [*explorer_data.LAWS][(i + k // 4) % 4]  # each count meets two laws, each solver all
        on = [*explorer_data.PROCESSES][(i + i // 4) % 4] if name == grid else process
        asked.append((name, f"{solver} {eta:g}", k, law, -1))
        runs.append((law, solver, on, grid, n, eta))
    shown = torch.tensor(explorer_data.asked_of_node(PLAY, asked), dtype=torch.float64)
    for played, run in zip(shown, runs, strict=True):
        assert (played - ends(*run)).abs().max() < TOLERANCE, run


def test_a_changed_number_is_seen(page: dict[str, Any]) -> None:
    name, solver, k = "uniform vp", "ab3 0", explorer_data.COUNTS.index(5)
    numbers = range(-1, len(page["plans"][name][solver][k][1]))
    played = explorer_data.asked_of_node(PLAY, [(name, solver, k, "two", i) for i in numbers])
    expected = ends("two", "ab3", "vp", "uniform", 5, 0.0)
    off = [(torch.tensor(x, dtype=torch.float64) - expected).abs().max().item() for x in played]
    assert off[0] < TOLERANCE
    one_and_zero = [page["plans"][name][solver][k][1].index(v) + 1 for v in (1.0, 0.0)]
    assert all(v > TOLERANCE for i, v in enumerate(off) if i and i not in one_and_zero)


def test_plans_are_those_of_a_fresh_call(page: dict[str, Any]) -> None:
    """On EDM's own process, whose start is the page's."""
    cases = [*itertools.product(("ddim", "heun", "unipc3", "vpc2"), (1, 4, 8))]
    of_edm = page["plans"]["uniform edm"]
    stored = [of_edm[f"{solver} 0"][explorer_data.COUNTS.index(n)] for solver, n in cases]
    programs = explorer_data.asked_of_node(
        "return given.map((one) => Player.unpack(D, one))", stored
    )
    for (solver, n), program in zip(cases, programs, strict=True):
        file = {"format": "flowsolve plan", "version": 1, "program": program}
        fresh = flowsolve.plan(solver, flowsolve.EDM(), nfe=n, grid="uniform")
        assert Plan(loads(json.dumps(file))) == fresh


@pytest.mark.parametrize("law", explorer_data.LAWS)
def test_exact_paths_keep_their_quantile(page: dict[str, Any], law: str) -> None:
    """In one dimension paths do not cross, so each keeps its quantile of the law."""
    weights, means = (
        torch.tensor(v, dtype=torch.float64)
        for v in (explorer_data.LAWS[law].weights, explorer_data.LAWS[law].means)
    )

    def quantile(x: torch.Tensor, sigma: float) -> torch.Tensor:
        spread = (explorer_data.LAWS[law].variance + sigma**2) ** 0.5
        return (weights * torch.special.ndtr((x[..., None] - means) / spread)).sum(-1)

    rays = torch.tensor(page["starts"], dtype=torch.float64)
    expected = quantile(page["top"] * rays, page["top"])
    for k, sigma in enumerate(page["sigmas"]):
        rest = torch.tensor([path[k] for path in page["data"][law]["rest"]])
        x = sigma * rays + rest / 10.0 ** page["places"]
        apart = 0.51 * 10.0 ** -page["places"]  # as far as it is rounded
        if sigma > 0.01:
            assert (quantile(x - apart, sigma) <= expected).all()
            assert (quantile(x + apart, sigma) >= expected).all()
    if law != "point":
        ends = torch.tensor(page["data"][law]["ends"], dtype=torch.float64)
        assert (quantile(ends, 0.0) - expected).abs().max() < 2e-8


STATES = (
    "",
    "solver=auto&process=flow",
    "solver=heun&grid=karras&process=cosine&path=2&n=5",
    "eta=0.5&n=3&grid=karras",
    "eta=1&n=1&data=point",
    "data=three&process=edm&grid=uniform&solver=ab2&n=12",
    "data=gaussian&solver=vpc2&grid=uniform&path=9",
    "data=nothing&n=7&solver=%3Cb%3E",
)


def test_the_python_shown_makes_the_run_shown() -> None:
    program = """return given.map((hash) => {
        const state = Explorer.read(D, hash), all = Explorer.runs(D, state);
        return [Explorer.code(D, state, all), all[state.path - 1].x];
    });"""
    for code, x in explorer_data.asked_of_node(program, STATES):
        names: dict[str, Any] = {"print": lambda value: None}
        exec(code, names)
        assert abs(names["run"].x.item() - x) < TOLERANCE
        assert f"# {x:.6f}" in code


def test_states_are_read_from_links_and_written() -> None:
    program = "return given.map((hash) => Explorer.hashOf(Explorer.read(D, hash)))"
    stops = [*explorer.STOPS.values()]
    assert explorer_data.asked_of_node(program, stops) == stops
    default, *_, wrong = explorer_data.asked_of_node(program, STATES)
    assert default == wrong == stops[1]


def test_the_page_is_small(page: dict[str, Any]) -> None:
    assert len(gzip.compress(explorer_data.written().encode())) < 60_000
    scripts = [
        (explorer_data.STATIC / name).read_text(encoding="utf-8") for name in explorer_data.SCRIPTS
    ]
    assert sum(len(script.splitlines()) for script in scripts) < 400


def test_without_javascript_there_is_a_picture() -> None:
    (still,) = re.findall(r"<noscript>(.*?)</noscript>", explorer.markup(), re.DOTALL)
    assert still.count("<svg") == 2 and "no error but rounding" in still


TOLD = "return given.map((state) => Explorer.told(D, {...Explorer.read(D, ''), ...state}));"


def test_what_the_network_says_is_what_flowsolve_s_says(page: dict[str, Any]) -> None:
    """The dots of the panel of ε̂, in the states in which the run asks."""
    keys = ("data", "solver", "n", "path")
    states = [
        dict(zip(keys, each, strict=True))
        for each in itertools.product(
            explorer_data.LAWS, ("ddim", "heun", "auto"), ("3", "8"), "48"
        )
    ]
    for state, found in zip(states, explorer_data.asked_of_node(TOLD, states), strict=True):
        model = explorer_data.LAWS[state["data"]].model(flowsolve.EDM(1e-3, 2 * explorer_data.TOP))
        assert len(found["dots"]) == int(state["n"])
        for sigma, eps, x in found["dots"]:
            expected = model(torch.tensor([[x]], dtype=torch.float64), sigma).eps.item()
            assert abs(eps - expected) < 1e-10 * max(1.0, abs(expected)), state


def test_for_one_point_it_says_the_same_all_along() -> None:
    """To the digits in which a path is stored, over the least noise that is drawn."""
    point, two = explorer_data.asked_of_node(TOLD, [{"data": "point"}, {"data": "two"}])
    (levels, eps), (_, turning) = (zip(*found["curve"], strict=True) for found in (point, two))
    assert min(levels) < 0.07 and max(levels) > 3.0
    assert max(eps) - min(eps) <= 10**-explorer_data.PLACES / min(levels)
    assert max(turning) - min(turning) > 1.0


LINK = re.compile(r'href="(?:\.\./)?explore\.html(#[^"]*)"')


def test_links_from_chapters_name_choices_that_there_are() -> None:
    links = {
        (page.name, html.unescape(found))
        for page in sorted(DOCS.rglob("*.md"))
        for found in LINK.findall(page.read_text(encoding="utf-8"))
    }
    assert {"ode.md", "few.md", "order.md", "coordinates.md", "stochastic.md"} <= {
        p for p, _ in links
    }
    hashes = [found for _, found in sorted(links)]
    read = "return given.map((hash) => Explorer.read(D, hash));"
    for (page, found), state in zip(
        sorted(links), explorer_data.asked_of_node(read, hashes), strict=True
    ):
        said = dict(parse_qsl(found.removeprefix("#"), strict_parsing=True))
        assert said == state, page
