"""The page "What does a step hold?": what it shows is what flowsolve computes.

docs/_ext/explorer.py makes its data; docs/_static/explorer_player.js plays them, here in node.
"""

from __future__ import annotations

import gzip
import itertools
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import flowsolve
from flowsolve.plans import Plan
from flowsolve.plans.files import loads

pytest.importorskip("sphinx", reason="the page is made by an extension of sphinx")
DOCS = Path(__file__).parent.parent / "docs"
sys.path.append(str(DOCS / "_ext"))
import explorer  # noqa: E402  # pyright: ignore[reportMissingImports]
from explorer_data import SCRIPTS, STATIC, asked_of_node, exact, noises, written  # noqa: E402  # pyright: ignore[reportMissingImports]
from explorer_plans import COUNTS, LAWS, PROCESSES, SOLVERS, STARTS, TOP, arguments, plane, sets  # noqa: E402  # pyright: ignore[reportMissingImports]
from mathml import node as find_node  # noqa: E402  # pyright: ignore[reportMissingImports]

#: Of a run's end: states are about one there, plans are written with 14 digits.
TOLERANCE = 1e-11

#: Those with a link to a picture.
CHAPTERS = ("ode", "few", "order", "coordinates", "stochastic")

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
        return find_node()
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
    on = PROCESSES[process].process
    z = torch.tensor(STARTS, dtype=torch.float64)[:, None]
    if eta:
        draws = torch.tensor(noises(), dtype=torch.float64)[..., None]
        how |= {"eta": eta, "noise": draws}
    run = flowsolve.solve(
        LAWS[law].model(on),
        solver=solver,
        start=on.at("sigma", TOP).R.value * z,
        **arguments(solver, process, grid, n),
        **how,
    )
    assert run.nfe == n
    return run.x[:, 0]


@pytest.mark.parametrize("name", [name for name in sets() if not name.endswith("plane")])
def test_every_plan_ends_where_flowsolve_does(page: dict[str, Any], name: str) -> None:
    """Each stored plan, on one law after another; those that all processes share, on one process
    after another, whose own solve() they are compared with."""
    members = sets()[name]
    assert {*page["plans"][name]} == {f"{solver} {eta:g}" for solver, _, _, eta in members}
    asked, runs = [], []
    for i, ((solver, process, grid, eta), (k, n)) in enumerate(
        itertools.product(members, enumerate(COUNTS))
    ):
        law = [*LAWS][(i + k // 4) % 4]  # each count meets two laws, each solver all
        on = [*PROCESSES][(i + i // 4) % 4] if name == grid else process
        asked.append((name, f"{solver} {eta:g}", k, law, -1))
        runs.append((law, solver, on, grid, n, eta))
    shown = torch.tensor(asked_of_node(PLAY, asked), dtype=torch.float64)
    for played, run in zip(shown, runs, strict=True):
        assert (played - ends(*run)).abs().max() < TOLERANCE, run


def test_a_changed_number_is_seen(page: dict[str, Any]) -> None:
    name, solver, k = "uniform vp", "ab3 0", COUNTS.index(5)
    numbers = range(-1, len(page["plans"][name][solver][k][1]))
    played = asked_of_node(PLAY, [(name, solver, k, "two", i) for i in numbers])
    expected = ends("two", "ab3", "vp", "uniform", 5, 0.0)
    off = [(torch.tensor(x, dtype=torch.float64) - expected).abs().max().item() for x in played]
    assert off[0] < TOLERANCE
    one_and_zero = [page["plans"][name][solver][k][1].index(v) + 1 for v in (1.0, 0.0)]
    assert all(v > TOLERANCE for i, v in enumerate(off) if i and i not in one_and_zero)


def test_plans_are_those_of_a_fresh_call(page: dict[str, Any]) -> None:
    """On EDM's own process, whose start is the page's."""
    cases = [*itertools.product(("ddim", "heun", "unipc3", "vpc2"), (1, 4, 8))]
    of_edm = page["plans"]["uniform edm"]
    stored = [of_edm[f"{solver} 0"][COUNTS.index(n)] for solver, n in cases]
    programs = asked_of_node("return given.map((one) => Player.unpack(D, one))", stored)
    for (solver, n), program in zip(cases, programs, strict=True):
        file = {"format": "flowsolve plan", "version": 1, "program": program}
        fresh = flowsolve.plan(solver, flowsolve.EDM(), nfe=n, grid="uniform")
        assert Plan(loads(json.dumps(file))) == fresh


@pytest.mark.parametrize("law", LAWS)
def test_exact_paths_keep_their_quantile(page: dict[str, Any], law: str) -> None:
    """In one dimension paths do not cross, so each keeps its quantile of the law."""
    weights, means = (
        torch.tensor(v, dtype=torch.float64) for v in (LAWS[law].weights, LAWS[law].means)
    )

    def quantile(x: torch.Tensor, sigma: float) -> torch.Tensor:
        spread = (LAWS[law].variance + sigma**2) ** 0.5
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


@pytest.mark.parametrize(
    "hash", ["", "data=three&solver=heun&path=2", "data=point&n=3&eta=0.5", "data=gaussian&path=9"]
)
def test_the_noise_shown_is_the_networks(page: dict[str, Any], hash: str) -> None:
    """ε̂ along the exact path and where the solver asks, and what ddim holds in between."""
    program = """const state = Explorer.read(D, given), all = Explorer.runs(D, state);
        const {along, asked, held} = Explorer.noiseOf(D, state, all), run = all[state.path - 1];
        return {state, along, asked, held, run, legs: Explorer.legs(D, run).down};"""
    shown = asked_of_node(program, hash)
    state, on = shown["state"], flowsolve.EDM(1e-9)
    model, i = LAWS[state["data"]].model(on), int(state["path"]) - 1

    def predicted(x: float, sigma: float) -> float:
        there = torch.tensor([[x]], dtype=torch.float64)
        return model(there, on.at("sigma", sigma)).eps.item()

    asked = [(at["level"]["R"] / at["level"]["A"], at["x"]) for at in shown["run"]["asked"]]
    assert [sigma for sigma, _ in shown["asked"]] == [sigma for sigma, _ in asked]
    for (_, eps), (sigma, x) in zip(shown["asked"], asked, strict=True):
        assert abs(eps - predicted(x, sigma)) < 1e-9
    z = torch.tensor(STARTS, dtype=torch.float64)[:, None]
    path = exact(LAWS[state["data"]].model(flowsolve.EDM()), z)[:, i, 0].tolist()
    assert [sigma for sigma, _ in shown["along"]] == page["sigmas"][:-1]
    for (sigma, eps), x in zip(shown["along"], path, strict=False):
        if sigma > 0.01:  # where the path, drawn with three places, still tells
            assert abs(eps - predicted(x, sigma)) < 0.01
    if state["solver"] != "ddim":
        assert shown["held"] == []
        return
    for (first, last), leg in zip(shown["held"], shown["legs"], strict=True):
        (s, x), (t, y) = leg[0], leg[-1]
        assert first[0] == s and last[0] == t and first[1] == last[1]
        assert abs(first[1] - (x - y) / (s - t)) < 1e-9


def test_the_python_shown_makes_the_run_shown() -> None:
    program = """return given.map((hash) => {
        const state = Explorer.read(D, hash), all = Explorer.runs(D, state);
        return [Explorer.code(D, state, all), all[state.path - 1].x];
    });"""
    for code, x in asked_of_node(program, STATES):
        names: dict[str, Any] = {"print": lambda value: None}
        exec(code, names)
        assert abs(names["run"].x.item() - x) < TOLERANCE
        assert f"# {x:.6f}" in code


#: Of the plane: every solver, count, grid, process and η.
PLANE_STATES = [
    *(f"view=plane&solver={name}&n={n}" for name, n in zip(SOLVERS, COUNTS, strict=True)),
    *(f"view=plane&solver=auto&process={on}&n={n}" for on in PROCESSES for n in COUNTS),
    "view=plane&n=12&grid=uniform&process=edm&eta=1",
    "view=plane&n=3&grid=karras&process=flow&eta=0.5",
    "view=plane&n=6&grid=karras&process=cosine&solver=dpmpp2m",
    "view=plane&n=1&eta=1",
]


def test_the_points_of_the_plane_end_where_flowsolve_does() -> None:
    """The Python that the page shows makes all of its points."""
    program = """return given.map((hash) => {
        const state = Explorer.read(D, hash), all = Explorer.runs(D, state);
        return [Explorer.code(D, state, all), all.map(({x}) => x)];
    });"""
    for hash, (code, points) in zip(
        PLANE_STATES, asked_of_node(program, PLANE_STATES), strict=True
    ):
        names: dict[str, Any] = {"print": lambda value: None}
        exec(code, names)
        played = torch.tensor(points, dtype=torch.float64)
        assert played.shape == names["run"].x.shape == (100, 2)
        assert (played - names["run"].x).abs().max() < 1e-10, hash
        assert "# " + ", ".join(f"{v:.6f}" for v in points[0]) in code


def test_the_plane_is_played_from_its_data(page: dict[str, Any]) -> None:
    """Starts and draws are those of the Python shown; exact ends are those of another method;
    points on their way are on the chord of a step."""
    model, means, z = plane(flowsolve.EDM())
    data = page["plane"]
    assert torch.equal(torch.tensor([data["starts"], *data["noises"]], dtype=torch.float64), z)
    assert torch.equal(torch.tensor(data["means"], dtype=torch.float64), means)
    ends = flowsolve.sample(
        model, solver="scipy:DOP853", rtol=1e-9, atol=1e-9, span=(TOP, 1e-5), start=TOP * z[0]
    )
    apart = (torch.tensor(data["ends"], dtype=torch.float64) - ends).abs().max()
    assert apart < 2e-4  # written with four places
    program = """const state = Explorer.read(D, "view=plane&n=5"), all = Explorer.runs(D, state);
        const at = (sigma) => all.map((run) => Plane.where(run, sigma));
        return [all.map(({states}) => states), given.map(at)];"""
    states, shown = asked_of_node(program, [3.0, 0.3, 0.0])
    for sigma, there in zip((3.0, 0.3, 0.0), shown, strict=True):
        for way, x in zip(states, there, strict=True):
            k = next(k for k, state in enumerate(way) if state["level"]["R"] <= sigma)
            s, t = way[k - 1]["level"]["R"], way[k]["level"]["R"]
            chord = [
                ((sigma - t) * a + (s - sigma) * b) / (s - t)
                for a, b in zip(way[k - 1]["x"], way[k]["x"], strict=True)
            ]
            assert x == pytest.approx(chord, abs=1e-12)


def test_states_are_read_from_links_and_written() -> None:
    program = "return given.map((hash) => Explorer.hashOf(Explorer.read(D, hash)))"
    stops = [*explorer.STOPS.values()]
    plane = "#view=plane&process=edm&solver=ab3&n=8&grid=karras&eta=0&level="
    points = [plane + level for level in ("0", "75", "last")]
    assert asked_of_node(program, points) == points
    assert asked_of_node(program, [plane + "76", plane + "77"]) == [points[-1]] * 2
    assert asked_of_node(program, stops) == stops
    default, *_, wrong = asked_of_node(program, STATES)
    assert default == wrong == stops[1]


def test_links_of_the_chapters_lead_to_pictures() -> None:
    """Each names every choice, and each choice exists."""
    links = [
        (path.stem, *found)
        for path in sorted((DOCS / "learn").glob("*.md"))
        for found in re.findall(r"\{picture\}`([^`<]*) <([^`>]*)>`", path.read_text("utf-8"))
    ]
    assert {chapter for chapter, _, _ in links} == {*CHAPTERS}
    assert all(title.startswith("See this picture") for _, title, _ in links)
    hashes = [f"#{state}" for _, _, state in links]
    program = "return given.map((hash) => Explorer.hashOf(Explorer.read(D, hash)))"
    assert asked_of_node(program, hashes) == hashes
    wrong = [hash.replace("two", "too").replace("eta=0", "eta=2") for hash in hashes]
    assert not {*asked_of_node(program, wrong)} & {*wrong}


def test_the_page_is_small(page: dict[str, Any]) -> None:
    assert len(gzip.compress(written().encode())) < 60_000
    scripts = [(STATIC / name).read_text(encoding="utf-8") for name in SCRIPTS]
    assert len(gzip.compress("".join(scripts).encode())) < 15_000
    assert all(len(script.splitlines()) <= 250 for script in scripts)
    assert all(len(line) <= 100 for script in scripts for line in script.splitlines())


def test_the_text_says_what_the_page_shows() -> None:
    """The numbers of explore.md: on path 4 of the two clusters, and in the plane."""
    program = """return given.map((hash) => {
        const state = Explorer.read(D, hash), all = Explorer.runs(D, state), run = all[3];
        const mean = all.reduce((sum, one, i) => sum + Math.abs(one.x - D.data.two.ends[i]), 0) / 9;
        const along = Explorer.noiseOf(D, state, all).along.map(([, eps]) => eps);
        const last = run.asked[run.asked.length - 1].level.R;
        return [run.x, mean, last, Math.min(...along), Math.max(...along), D.data.two.ends[3]];
    });"""
    four, twelve, second = asked_of_node(program, ["n=4", "n=12", "solver=dpmpp2m&n=4"])
    shown = [four[0], four[5], four[2], twelve[0], second[0], four[1], second[1], four[3], four[4]]
    text = (DOCS / "explore.md").read_text(encoding="utf-8")
    said = ["−0.21", "−1.13", "0.18", "−1.03", "−0.92", "0.21", "0.05", "−0.50", "1.10"]
    assert [f"{value:.2f}".replace("-", "−") for value in shown] == said
    program = """return given.map((hash) => {
        const state = Explorer.read(D, "view=plane&n=8&solver=" + hash);
        return Plane.meanError(D, Explorer.runs(D, state));
    });"""
    in_plane = [f"{value:.2f}" for value in asked_of_node(program, ["ddim", "dpmpp2m"])]
    assert in_plane == ["0.16", "0.05"]
    program = """const {means, variance, ends} = D.plane, away = (x) =>
            Math.min(...means.map((m) => Math.hypot(m[0] - x[0], m[1] - x[1])));
        const all = Explorer.runs(D, Explorer.read(D, "view=plane&n=4&solver=ddim"));
        return [all.map(({x}) => x), ends].map((points) =>
            points.filter((x) => away(x) > 2 * Math.sqrt(variance)).length);"""
    outside = [str(count) for count in asked_of_node(program)]
    assert outside == ["35", "17"]
    assert all(re.search(rf"(?<!\d){one}(?!\d)", text) for one in said + in_plane + outside)


def test_without_javascript_there_is_a_picture() -> None:
    (still,) = re.findall(r"<noscript>(.*?)</noscript>", explorer.markup(), re.DOTALL)
    assert still.count("<svg") == 2 and "no error but rounding" in still
