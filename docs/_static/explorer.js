// The page "What does a step hold?": draws runs of stored plans. The data are the JSON that
// docs/_ext/explorer_data.py made for it; everything is in x̄ = x/A and σ̄ = R/A, and the left
// panel is its image in x and t.
"use strict";

const Explorer = (() => {
  const {denoise, play, unpack} = typeof module === "object" ? require("./explorer_player.js") : Player;

  // ---- The state of the page, and its hash -------------------------------------------------

  const initial = {data: "two", process: "vp", solver: "ddim", n: "4", grid: "logistic", eta: "0", path: "4"};

  const choices = (D) => ({
    data: Object.keys(D.data), process: Object.keys(D.processes), solver: D.solvers,
    n: D.counts.map(String), grid: Object.keys(D.grids), eta: D.etas.map(String),
    path: D.starts.map((_, i) => String(i + 1)),
  });

  // What a hash says; what it does not say, or says wrongly, is as at the beginning.
  function read(D, hash) {
    const said = new URLSearchParams(hash.replace(/^#/, "")), allowed = choices(D), state = {};
    for (const [key, value] of Object.entries(initial))
      state[key] = allowed[key].includes(said.get(key)) ? said.get(key) : value;
    return state;
  }

  const hashOf = (state) => "#" + new URLSearchParams(state);

  // ---- Runs ------------------------------------------------------------------------------------

  const own = (solver) => solver === "auto"; // brings its own grid
  const etaOf = ({solver, eta}) => (solver === "ddim" ? eta : "0");

  function planName({solver, process, grid}) {
    if (own(solver)) return `auto ${process}`;
    return grid === "uniform" ? `uniform ${process}` : grid;
  }

  // One run from each start. A start is R z, so x̄ = σ̄ z.
  function runs(D, state) {
    const stored = D.plans[planName(state)][`${state.solver} ${etaOf(state)}`];
    const program = unpack(D, stored[D.counts.indexOf(+state.n)]);
    return D.starts.map((z, i) => play(program, D.top * z, D.data[state.data], D.noises.map((draw) => draw[i])));
  }

  function meanError(D, state, all = runs(D, state)) {
    const ends = D.data[state.data].ends;
    return all.reduce((sum, run, i) => sum + Math.abs(run.x - ends[i]), 0) / ends.length;
  }

  const exact = (D, data, i) => // [σ̄, x̄] on the exact path from start i
    D.sigmas.map((sigma, k) => [sigma, sigma * D.starts[i] + D.data[data].rest[i][k] / 10 ** D.places]);

  // The solver's path as curves [σ̄, x̄]: from each state a straight line to the next, which is what
  // ddim holds; with noise first down to the quieter level, then back up.
  function legs(D, run) {
    const down = [], up = [];
    run.states.slice(1).forEach((to, k) => {
      const from = run.states[k], s = from.level.R, t = to.level.R;
      const [end, x] = "before" in to ? [Math.sqrt(Math.max(0, t * t - to.spread ** 2)), to.before] : [t, to.x];
      const between = D.sigmas.filter((sigma) => sigma < s && sigma > end);
      down.push([[s, from.x], ...between.map((v) => [v, x + ((from.x - x) * (v - end)) / (s - end)]), [end, x]]);
      if ("before" in to) up.push([[end, x], [t, to.x]]);
    });
    return {down, up};
  }

  // Time and A at a noise level: between the table's levels straight in σ̄/(1+σ̄).
  function place(D, process, sigma) {
    const {t, A} = D.processes[process], u = (v) => v / (1 + v);
    const k = Math.max(1, D.sigmas.findIndex((v) => v <= sigma)), a = D.sigmas[k - 1], b = D.sigmas[k];
    const part = (u(a) - u(Math.min(sigma, a))) / (u(a) - u(b));
    return {t: t[k - 1] + part * (t[k] - t[k - 1]), A: A[k - 1] + part * (A[k] - A[k - 1])};
  }

  // ---- Pictures --------------------------------------------------------------------------------

  const WIDTH = 360, HEIGHT = 290, FRAME = {left: 50, right: 352, top: 8, bottom: 246}, INSET = 8;
  const scale = (from, to, a, b) => (v) => a + ((v - from) / (to - from)) * (b - a);
  const across = (from, to) => scale(from, to, FRAME.left + INSET, FRAME.right - INSET);
  const upward = (from, to) => scale(from, to, FRAME.bottom - INSET, FRAME.top + INSET);
  const line = (points, kind) =>
    `<path class="${kind}" d="M${points.map((p) => p.map((v) => v.toFixed(1)).join(" ")).join("L")}"/>`;
  const minus = (text) => String(text).replace("-", "−");
  const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");

  // An SVG's content: a title, a frame with axes, and a drawing that is clipped by it.
  function framed(name, title, axes, drawing) {
    const {left, right, top, bottom} = FRAME, middle = (left + right) / 2;
    const x = axes.x.ticks.map(([v, text]) => `<path class="tick" d="M${axes.x.at(v)} ${bottom}v4"/>` +
      `<text x="${axes.x.at(v)}" y="${bottom + 17}" text-anchor="middle">${text}</text>`);
    const y = axes.y.ticks.map(([v, text]) => `<path class="tick" d="M${left} ${axes.y.at(v)}h-4"/>` +
      `<text x="${left - 7}" y="${axes.y.at(v) + 4}" text-anchor="end">${text}</text>`);
    const box = `x="${left}" y="${top}" width="${right - left}" height="${bottom - top}"`;
    return `<title>${title}</title><defs><clipPath id="explorer-${name}"><rect ${box}/></clipPath>` +
      `<clipPath id="explorer-${name}-now"><rect class="now" ${box}/></clipPath></defs>` +
      `<rect class="frame" ${box}/>${x.join("")}${y.join("")}` +
      `<text x="${middle}" y="${HEIGHT - 6}" text-anchor="middle">${axes.x.label}</text>` +
      `<text x="9" y="${(top + bottom) / 2}" text-anchor="middle" transform="rotate(-90 9 ${(top + bottom) / 2})">` +
      `${axes.y.label}</text><g clip-path="url(#explorer-${name})">${drawing}</g>`;
  }

  const ticks = (values) => values.map((v) => [v, minus(v)]);

  // How [σ̄, x̄] is shown in a panel, and its axes.
  function view(D, state, name) {
    const {first, times, states} = D.processes[state.process], xs = states[states.length - 1];
    const [X, Y] = name === "left" ? [across(first, 0), upward(-1.3 * xs, 1.3 * xs)] : [across(3, 0), upward(-5.2, 5.2)];
    const at = ([sigma, x]) => {
      if (name === "right") return [X(sigma), Y(x)];
      const {t, A} = place(D, state.process, sigma);
      return [X(t), Y(A * x)];
    };
    const axes = name === "left"
      ? {x: {at: X, ticks: ticks(times), label: "time t"}, y: {at: Y, ticks: ticks(states), label: "state x"}}
      : {x: {at: X, ticks: ticks([3, 2, 1, 0]), label: "noise level σ̄ = R/A"},
         y: {at: Y, ticks: ticks([-4, -2, 0, 2, 4]), label: "x̄ = x/A"}};
    return {at, axes};
  }

  function panel(D, state, name, all = runs(D, state)) {
    const {at, axes} = view(D, state, name), chosen = +state.path - 1;
    const {means, variance} = D.data[state.data], width = Math.max(0.05, 2 * Math.sqrt(variance));
    const law = means.map((m) => line([at([0, m - width]), at([0, m + width])], "law"));
    const order = [...all.keys()].sort((i, j) => (i === chosen) - (j === chosen)); // the chosen on top
    const grey = order.map((i) => line(exact(D, state.data, i).map(at), i === chosen ? "exact chosen" : "exact"));
    const drawn = etaOf(state) === "0" ? order : [chosen]; // nine noisy runs are a tangle
    const coloured = drawn.map((i) => {
      const mine = i === chosen ? " chosen" : "", {down, up} = legs(D, all[i]);
      const on = new Set(all[i].states.map(({x, level}) => `${level.R} ${x}`));
      const dot = ({x, level}) => {
        const [cx, cy] = at([level.R, x]), inside = on.has(`${level.R} ${x}`) ? "" : " inside";
        return `<circle class="asked${mine}${inside}" cx="${cx.toFixed(1)}" cy="${cy.toFixed(1)}" r="${mine ? 4 : 2}"/>`;
      };
      const [ex, ey] = at([0, all[i].x]);
      const end = mine && `<rect class="end" x="${(ex - 4).toFixed(1)}" y="${(ey - 4).toFixed(1)}" width="8" height="8"/>`;
      return down.map((leg) => line(leg.map(at), "run" + mine)).join("") +
        up.map((leg) => line(leg.map(at), "noise" + mine)).join("") + all[i].asked.map(dot).join("") + end;
    });
    const title = (name === "left" ? "States x against time t" : "The same runs, x̄ against noise level σ̄") +
      ". Grey: exact paths. Coloured: the solver's.";
    return framed(name, title, axes,
      law.join("") + grey.join("") + `<g clip-path="url(#explorer-${name}-now)">${coloured.join("")}</g>`);
  }

  // The mean error of every solver against the evaluations, without noise; kept until the run is
  // another one for all of them.
  let kept = {};
  function errors(D, {data, process, grid}) {
    const key = [data, process, grid].join();
    const error = (solver, n) => meanError(D, {data, process, grid, solver, n, eta: "0"});
    if (kept.key !== key)
      kept = {key, table: D.solvers.map((solver) => [solver, D.counts.map((n) => error(solver, n))])};
    return kept.table;
  }

  // ε̂ along the chosen path: what the network says on the exact path, [σ̄, ε̂], as far down as the
  // path's digits tell, and what it told the solver, [σ̄, ε̂, x̄].
  const QUIETEST = 0.05;
  function told(D, state, all = runs(D, state)) {
    const law = D.data[state.data], i = +state.path - 1, eps = (x, R) => denoise(x, {A: 1, R}, law).eps;
    return {
      curve: exact(D, state.data, i).filter(([R]) => R >= QUIETEST).map(([R, x]) => [R, eps(x, R)]),
      dots: all[i].asked.map(({x, level}) => [level.R, eps(x, level.R), x]),
    };
  }

  function predictions(D, state, all) {
    const {curve, dots} = told(D, state, all), seen = [...curve, ...dots].filter(([R]) => R <= 3.2);
    const values = (seen.length ? seen : dots).map(([, eps]) => eps);
    const middle = (Math.max(...values) + Math.min(...values)) / 2;
    const half = Math.max(1, 1.15 * (Math.max(...values) - middle)), X = across(3, 0), Y = upward(middle - half, middle + half);
    const step = [1, 2, 5, 10, 20, 50].find((v) => half / v < 3) || 100, low = Math.ceil((middle - half) / step);
    const marks = Array.from({length: Math.floor((middle + half) / step) - low + 1}, (_, k) => (low + k) * step);
    const at = ([R, eps]) => [X(R), Y(eps)];
    // Which ddim holds from one level to the next. Other solvers go by several of the dots at once.
    const held = state.solver === "ddim" ? dots.map(([R, eps], k) => [[R, eps], [k + 1 < dots.length ? dots[k + 1][0] : 0, eps]]) : [];
    const circles = dots.map(at).map(([cx, cy]) => `<circle class="asked chosen" cx="${cx.toFixed(1)}" cy="${cy.toFixed(1)}" r="4"/>`);
    const axes = {x: {at: X, ticks: ticks([3, 2, 1, 0]), label: "noise level σ̄ = R/A"}, y: {at: Y, ticks: ticks(marks), label: "ε̂"}};
    return framed("eps", "What the network says, ε̂ against noise level σ̄. Grey: along the exact path. Dots: what it told the solver.", axes,
      line(curve.map(at), "exact chosen") + held.map((leg) => line(leg.map(at), "run chosen")).join("") + circles.join(""));
  }

  const FLOOR = -5; // of the chart, a power of ten

  function chart(D, state, table) {
    const counts = D.counts, X = across(0, Math.log(counts[counts.length - 1])), Y = upward(FLOOR, 0.5);
    const point = (n, error) => [X(Math.log(n)), Y(Math.max(FLOOR, Math.log10(error)))];
    const axes = {
      x: {at: (n) => X(Math.log(n)), ticks: ticks(counts), label: "evaluations of the network"},
      y: {at: Y, ticks: [[0, "1"], [-1, "0.1"], [-2, "10⁻²"], [-3, "10⁻³"], [-4, "10⁻⁴"], [FLOOR, "≤10⁻⁵"]], label: "mean error"},
    };
    const curves = [...table].sort(([a], [b]) => (a === state.solver) - (b === state.solver)).map(([solver, all]) => {
      const mine = solver === state.solver, points = all.map((error, k) => point(counts[k], error));
      const [cx, cy] = points[counts.indexOf(+state.n)];
      return `<g><title>${solver}</title>${line(points, mine ? "run chosen" : "other")}` +
        (mine ? `<circle class="asked chosen" cx="${cx}" cy="${cy}" r="4"/>` : "") + "</g>";
    });
    return framed("chart", "Mean error of the nine paths against evaluations, a line for each solver", axes, curves.join(""));
  }

  // ---- Words and Python ------------------------------------------------------------------------

  const number = (v) => minus(Math.abs(v) < 5e-4 ? "0.000" : v.toFixed(3));
  const errorText = (v) => (v < 1e-9 ? "0" : v < 1e-3 ? minus(v.toExponential(1)) : v.toPrecision(2));

  function sentence(D, state, all) {
    const i = +state.path - 1, run = all[i], end = D.data[state.data].ends[i], asked = run.asked.length;
    const who = `${state.solver} asks the network ${asked === 1 ? "once" : `${asked} times`}.`;
    if (etaOf(state) !== "0")
      return `${who} With η = ${state.eta} it adds fresh noise on the way. Path ${state.path} ends at ${number(run.x)}. ` +
        `Without noise the exact path ends at ${number(end)}, but a noisy run need not follow it.`;
    const error = errorText(Math.abs(run.x - end));
    return `${who} Path ${state.path} ends at ${number(run.x)}, the exact path at ${number(end)}: ` +
      (error === "0" ? "no error but rounding. " : `an error of ${error}. `) +
      `The mean error of the nine paths is ${errorText(meanError(D, state, all))}.`;
  }

  function code(D, state, all) {
    const {solver, n, grid, process} = state, run = all[+state.path - 1], karras = grid === "karras" && !own(solver);
    const lines = ["import torch", "import flowsolve"];
    if (karras) lines.push("from flowsolve.grids import Karras");
    lines.push("", `process = ${D.processes[process].code}`, `model = ${D.data[state.data].code}`,
      `top = process.at("sigma", ${D.top})`);
    if (karras) lines.push(`levels = Karras().levels(flowsolve.EDM(0.01), ${run.states.length - 1})`);
    lines.push("run = flowsolve.solve(", "    model,", `    solver="${solver}",`, `    nfe=${n},`);
    if (etaOf(state) !== "0") {
      const draws = D.noises.slice(0, Math.max(0, run.states.length - 2)).map((draw) => `[[${draw[+state.path - 1]}]]`);
      lines.push(`    eta=${state.eta},`);
      if (draws.length) lines.push(`    noise=torch.tensor([${draws.join(", ")}], dtype=torch.float64),`);
    }
    if (karras) lines.push('    grid=[process.at("sigma", level.sigma).t for level in levels],');
    else {
      if (!own(solver)) lines.push(`    grid="${grid === "logistic" ? "logistic(low=1.5)" : grid}",`);
      lines.push("    span=(top.t, None),");
    }
    lines.push(`    start=top.R.value * torch.tensor([[${D.starts[+state.path - 1]}]], dtype=torch.float64),`, ")",
      `print(run.x.item())  # ${run.x.toFixed(6)}`);
    return lines.join("\n");
  }

  function rows(state, table, D) {
    const k = D.counts.indexOf(+state.n);
    return table.map(([solver, all]) => `<tr${solver === state.solver ? ' class="chosen"' : ""}><th scope="row">` +
      `<a href="${escaped(hashOf({...state, solver}))}"${solver === state.solver ? ' aria-current="true"' : ""}>${solver}</a>` +
      `</th><td>${errorText(all[k])}</td></tr>`).join("");
  }

  // What stands in the page for readers without JavaScript.
  function still(D, hash) {
    const state = read(D, hash), svg = (name) =>
      `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img">${panel(D, state, name)}</svg>`;
    return {pictures: svg("left") + svg("right"), words: sentence(D, state, runs(D, state))};
  }

  // ---- The page --------------------------------------------------------------------------------

  function start(root) {
    const D = JSON.parse(root.querySelector("script").textContent), $ = (name) => root.querySelector(`[data-${name}]`);
    const input = Object.fromEntries(Object.keys(initial).map((key) => [key, root.querySelector(`[name=${key}]`)]));
    const calm = matchMedia("(prefers-reduced-motion: reduce)");
    let state = read(D, location.hash), all, frame = 0, step = 0;

    // Show the solver's paths down to a noise level, and say how much of them is in sight.
    function reveal(sigma) {
      return ["left", "right"].map((name) => {
        const x = sigma > 0 ? view(D, state, name).at([sigma, 0])[0] : FRAME.right;
        const width = Math.min(FRAME.right - FRAME.left, Math.max(0, x - FRAME.left + 4));
        $(name).querySelector(".now").setAttribute("width", width);
        return width;
      });
    }

    function draw() {
      cancelAnimationFrame(frame);
      step = 0;
      all = runs(D, state);
      const table = errors(D, state);
      for (const key of Object.keys(input)) input[key].value = key === "n" ? D.counts.indexOf(+state.n) : state[key];
      input.n.setAttribute("aria-valuetext", `${state.n} evaluations`);
      input.grid.disabled = own(state.solver);
      input.eta.disabled = state.solver !== "ddim";
      $("count").textContent = state.n;
      $("number").textContent = state.path;
      for (const name of ["left", "right"]) $(name).innerHTML = panel(D, state, name, all);
      $("eps").innerHTML = predictions(D, state, all);
      $("chart").innerHTML = chart(D, state, table);
      $("rows").innerHTML = rows(state, table, D);
      $("words").textContent = sentence(D, state, all);
      $("code").textContent = code(D, state, all);
      $("play").textContent = calm.matches ? "Next step" : "Play";
    }

    // From noise to data in four seconds; with reduced motion a step at each press.
    function run() {
      cancelAnimationFrame(frame);
      if (calm.matches) {
        const levels = all[0].states.map(({level}) => level.R);
        do step = (step % (levels.length - 1)) + 1;
        while (Math.max(...reveal(levels[step])) === 0);
        return;
      }
      const begun = performance.now(), last = D.sigmas.length - 1;
      const next = (now) => {
        const k = Math.max(0, (now - begun) / 4000) * last, i = Math.floor(k);
        if (i >= last) return reveal(0);
        reveal(D.sigmas[i] + (k - i) * (D.sigmas[i + 1] - D.sigmas[i]));
        frame = requestAnimationFrame(next);
      };
      frame = requestAnimationFrame(next);
    }

    for (const [key, element] of Object.entries(input))
      element.addEventListener("input", () => {
        state = {...state, [key]: key === "n" ? String(D.counts[element.value]) : element.value};
        history.replaceState(null, "", hashOf(state));
        draw();
      });
    $("play").addEventListener("click", run);
    calm.addEventListener("change", draw);
    addEventListener("hashchange", () => {
      if (!location.hash.includes("=")) return; // a heading of the page
      state = read(D, location.hash);
      draw();
    });
    draw();
    for (const part of root.querySelectorAll("[hidden]")) part.hidden = false;
  }

  return {read, hashOf, runs, told, predictions, sentence, code, still, start};
})();

if (typeof module === "object") module.exports = Explorer;
else document.querySelectorAll(".explorer").forEach(Explorer.start);
