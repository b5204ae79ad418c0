// The page "What does a step hold?" in the browser: its controls, its address, and Play.
"use strict";

function startExplorer(root) {
  const {
    KEYS,
    own,
    read,
    hashOf,
    runs,
    view,
    panel,
    noisePanel,
    errors,
    chart,
    rows,
    sentence,
    code,
  } = Explorer;
  const D = JSON.parse(root.querySelector("script").textContent),
    $ = (name) => root.querySelector(`[data-${name}]`);
  const names = [...new Set(Object.values(KEYS).flat())].filter((key) => key !== "view");
  const input = Object.fromEntries(names.map((key) => [key, root.querySelector(`[name=${key}]`)]));
  const tabs = [...root.querySelectorAll("[role=tab]")],
    calm = matchMedia("(prefers-reduced-motion: reduce)");
  const last = D.sigmas.length - 1;
  let state = read(D, location.hash),
    all,
    frame = 0,
    step = 0;

  const levelOf = () => (state.level === "last" ? last : +state.level);
  const say = (name, text) => {
    if ($(name).textContent !== text) $(name).textContent = text;
  };

  // Show the solver's paths down to a noise level, and say how much of them is in sight.
  function reveal(sigma) {
    return ["left", "right", "noise"].map((name) => {
      const x = sigma > 0 ? view(D, state, name).at([sigma, 0])[0] : Svg.FRAME.right;
      const width = Math.min(Svg.FRAME.right - Svg.FRAME.left, Math.max(0, x - Svg.FRAME.left + 4));
      $(name).querySelector(".now").setAttribute("width", width);
      return width;
    });
  }

  // Show the points of the plane at a noise level, and say that they are in sight.
  function move(sigma) {
    $("plane").querySelector(".dots").innerHTML = Plane.dots(all, sigma);
    const shown = sigma === 0 ? "0" : sigma >= 10 ? sigma.toFixed(0) : sigma.toPrecision(2);
    say("level", shown);
    input.level.value = D.sigmas.findIndex((v) => v <= sigma);
    input.level.setAttribute("aria-valuetext", `noise level ${shown}`);
    return [1];
  }

  function drawLine() {
    const table = errors(D, state);
    for (const name of ["left", "right"]) $(name).innerHTML = panel(D, state, name, all);
    $("noise").innerHTML = noisePanel(D, state, all);
    $("chart").innerHTML = chart(D, state, table);
    $("rows").innerHTML = rows(state, table, D);
    say("number", state.path);
    say("words", sentence(D, state, all));
  }

  function drawPlane() {
    const sigma = D.sigmas[levelOf()];
    $("plane").innerHTML = Plane.picture(D, all, sigma);
    move(sigma);
    say("plane-words", sentence(D, state, all));
  }

  function draw() {
    cancelAnimationFrame(frame);
    step = 0;
    all = runs(D, state);
    for (const tab of tabs) {
      const mine = tab.dataset.view === state.view;
      tab.setAttribute("aria-selected", mine);
      tab.tabIndex = mine ? 0 : -1;
      document.getElementById(tab.getAttribute("aria-controls")).hidden = !mine;
    }
    for (const [key, element] of Object.entries(input)) {
      element.closest("label").hidden = !KEYS[state.view].includes(key);
      element.value =
        key === "n" ? D.counts.indexOf(+state.n) : key === "level" ? levelOf() : state[key];
    }
    input.n.setAttribute("aria-valuetext", `${state.n} evaluations`);
    input.grid.disabled = own(state.solver);
    input.eta.disabled = state.solver !== "ddim";
    say("count", state.n);
    (state.view === "plane" ? drawPlane : drawLine)();
    say("code", code(D, state, all));
    say("play", calm.matches ? "Next step" : "Play");
  }

  function change(to) {
    state = {...state, ...to};
    history.replaceState(null, "", hashOf(state));
    if (Object.keys(to).join() !== "level") return draw();
    cancelAnimationFrame(frame); // the paths stay
    move(D.sigmas[levelOf()]);
  }

  // From noise to data in four seconds; with reduced motion a step at each press.
  function run() {
    cancelAnimationFrame(frame);
    const show = state.view === "plane" ? move : reveal;
    if (calm.matches) {
      const levels = all[0].states.map(({level}) => level.R);
      do step = (step % (levels.length - 1)) + 1;
      while (Math.max(...show(levels[step])) === 0);
      return;
    }
    const begun = performance.now();
    const next = (now) => {
      const k = Math.max(0, (now - begun) / 4000) * last,
        i = Math.floor(k);
      if (i >= last) return state.view === "plane" ? change({level: "last"}) : reveal(0);
      show(D.sigmas[i] + (k - i) * (D.sigmas[i + 1] - D.sigmas[i]));
      frame = requestAnimationFrame(next);
    };
    frame = requestAnimationFrame(next);
  }

  const chosen = {
    n: (value) => String(D.counts[value]),
    level: (value) => (+value === last ? "last" : value),
  };
  for (const [key, element] of Object.entries(input))
    element.addEventListener("input", () =>
      change({[key]: (chosen[key] || String)(element.value)}),
    );
  for (const tab of tabs) {
    tab.addEventListener("click", () => change({view: tab.dataset.view}));
    tab.addEventListener("keydown", ({key}) => {
      if (key !== "ArrowLeft" && key !== "ArrowRight") return;
      const other = tabs.find((one) => one !== tab);
      change({view: other.dataset.view});
      other.focus();
    });
  }
  $("play").addEventListener("click", run);
  calm.addEventListener("change", draw);
  addEventListener("hashchange", () => {
    if (!location.hash.includes("=")) return; // a heading of the page
    state = read(D, location.hash);
    draw();
  });
  draw();
  for (const part of root.querySelectorAll(".scripted")) part.hidden = false;
}

document.querySelectorAll(".explorer").forEach(startExplorer);
