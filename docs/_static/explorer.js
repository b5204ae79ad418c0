// The page "What does a step hold?": draws runs of stored plans. The data are the JSON that
// docs/_ext/explorer.py wrote into the page; everything is in x̄ = x/A and σ̄ = R/A, and the left
// panel is its image in x and t.
"use strict";

const Explorer = (() => {
  const inNode = typeof module === "object";
  const {denoise, play, goal, unpack} = inNode ? require("./explorer_player.js") : Player;
  const {runs: planeRuns, meanError: planeError} = inNode ? require("./explorer_plane.js") : Plane;
  const {WIDTH, HEIGHT, FRAME, across, upward, line, circle, minus, ticks, framed, sofar} = inNode ? require("./explorer_svg.js") : Svg;

  // ---- The state of the page, and its hash -------------------------------------------------

  const initial = {view: "line", data: "two", process: "vp", solver: "ddim", n: "4", grid: "logistic", eta: "0", path: "4", level: "last"};

  // What a picture depends on, and so what its address holds.
  const SHARED = ["process", "solver", "n", "grid", "eta"];
  const KEYS = {line: ["data", ...SHARED, "path"], plane: ["view", ...SHARED, "level"]};

  const choices = (D) => ({
    view: Object.keys(KEYS), data: Object.keys(D.data), process: Object.keys(D.processes), solver: D.solvers,
    n: D.counts.map(String), grid: Object.keys(D.grids), eta: D.etas.map(String),
    path: D.starts.map((_, i) => String(i + 1)), level: [...D.sigmas.slice(0, -1).map((_, k) => String(k)), "last"],
  });

  // What a hash says; what it does not say, or says wrongly, is as at the beginning.
  function read(D, hash) {
    const said = new URLSearchParams(hash.replace(/^#/, "")), allowed = choices(D), state = {};
    for (const [key, value] of Object.entries(initial))
      state[key] = allowed[key].includes(said.get(key)) ? said.get(key) : value;
    return state;
  }

  const hashOf = (state) => "#" + new URLSearchParams(KEYS[state.view].map((key) => [key, state[key]]));

  // ---- Runs ------------------------------------------------------------------------------------

  const own = (solver) => solver === "auto"; // brings its own grid
  const etaOf = ({solver, eta}) => (solver === "ddim" ? eta : "0");

  function planName({view, solver, process, grid}) {
    if (own(solver)) return `auto ${process}${view === "plane" ? " plane" : ""}`;
    return grid === "uniform" ? `uniform ${process}` : grid;
  }

  // One run from each start. A start is R z, so x̄ = σ̄ z.
  function runs(D, state) {
    const stored = D.plans[planName(state)][`${state.solver} ${etaOf(state)}`];
    const program = unpack(D, stored[D.counts.indexOf(+state.n)]);
    if (state.view === "plane") return planeRuns(D, program);
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
      const {sigma: end, x} = goal(to);
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

  // How [σ̄, x̄] is shown in a panel, and its axes.
  function view(D, state, name) {
    const {first, times, states} = D.processes[state.process], xs = states[states.length - 1];
    const [X, Y] = name === "left" ? [across(first, 0), upward(-1.3 * xs, 1.3 * xs)] : [across(3, 0), upward(-5.2, 5.2)];
    const at = ([sigma, x]) => {
      if (name !== "left") return [X(sigma), Y(x)];
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
        const inside = on.has(`${level.R} ${x}`) ? "" : " inside";
        return circle(at([level.R, x]), `asked${mine}${inside}`, mine ? 4 : 2);
      };
      const [ex, ey] = at([0, all[i].x]);
      const end = mine && `<rect class="end" x="${(ex - 4).toFixed(1)}" y="${(ey - 4).toFixed(1)}" width="8" height="8"/>`;
      return down.map((leg) => line(leg.map(at), "run" + mine)).join("") +
        up.map((leg) => line(leg.map(at), "noise" + mine)).join("") + all[i].asked.map(dot).join("") + end;
    });
    const title = (name === "left" ? "States x against time t" : "The same runs, x̄ against noise level σ̄") +
      ". Grey: exact paths. Coloured: the solver's.";
    return framed(name, title, axes,
      law.join("") + grey.join("") + sofar(name, coloured.join("")));
  }

  // The network's ε̂ along the chosen exact path, where the solver has it evaluated, and for ddim what
  // is held in between; all as [σ̄, ε̂].
  function noiseOf(D, state, all) {
    const i = +state.path - 1, {asked} = all[i];
    const along = exact(D, state.data, i).filter(([sigma]) => sigma > 0)
      .map(([sigma, x]) => [sigma, denoise(x, {A: 1, R: sigma}, D.data[state.data]).eps]);
    const held = state.solver !== "ddim" ? [] : legs(D, all[i]).down
      .map((leg, k) => [leg[0], leg[leg.length - 1]].map(([sigma]) => [sigma, asked[k].eps]));
    return {along, asked: asked.map(({level, eps}) => [level.R, eps]), held};
  }

  const LOW = 146; // where the frame of the small panel ends

  function noisePanel(D, state, all) {
    const {along, asked, held} = noiseOf(D, state, all), {x} = view(D, state, "right").axes;
    const Y = upward(-3, 3, LOW), at = ([sigma, eps]) => [x.at(sigma), Y(eps)];
    const steps = etaOf(state) === "0" && held.length ? [held.flat()] : held; // noise breaks the line
    const mine = steps.map((step) => line(step.map(at), "run chosen")).join("") +
      asked.map((one) => circle(at(one), "asked chosen", 4)).join("");
    const y = {at: Y, ticks: ticks([-2, 0, 2]), label: `ε̂, path ${state.path}`};
    return framed("noise", `The network’s ε̂ along exact path ${state.path}, grey, and where the solver asks, dots`,
      {x, y}, line([at([3.5, 0]), at([-0.5, 0])], "zero") + line(along.map(at), "exact chosen") + sofar("noise", mine), LOW);
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
      return `<g><title>${solver}</title>${line(points, mine ? "run chosen" : "other")}` +
        (mine ? circle(points[counts.indexOf(+state.n)], "asked chosen", 4) : "") + "</g>";
    });
    return framed("chart", "Mean error of the nine paths against evaluations, a line for each solver", axes, curves.join(""));
  }

  // ---- Words and Python ------------------------------------------------------------------------

  const number = (v) => minus(Math.abs(v) < 5e-4 ? "0.000" : v.toFixed(3));
  const errorText = (v) => (v < 1e-9 ? "0" : v < 1e-3 ? minus(v.toExponential(1)) : v.toPrecision(2));

  function planeSentence(D, state, all) {
    const error = errorText(planeError(D, all)), asked = all[0].asked.length;
    return `${state.solver} moves ${all.length} points from noise to data, and asks the network ${asked === 1 ? "once" : `${asked} times`} ` +
      "for each. " + (etaOf(state) === "0" ? `On average a point ends ${error} from the end of its exact path.`
        : `With η = ${state.eta} it adds fresh noise on the way, and a point need not end where its exact path does.`);
  }

  function sentence(D, state, all) {
    if (state.view === "plane") return planeSentence(D, state, all);
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
    const {solver, n, grid, process} = state, plane = state.view === "plane", run = all[plane ? 0 : +state.path - 1], karras = grid === "karras" && !own(solver);
    const lines = ["import torch", "import flowsolve"];
    if (karras) lines.push("from flowsolve.grids import Karras");
    const model = plane ? [...D.plane.code, ...D.plane.draws] : [`model = ${D.data[state.data].code}`];
    lines.push("", `process = ${D.processes[process].code}`, ...model,
      `top = process.at("sigma", ${D.top})`);
    if (karras) lines.push(`levels = Karras().levels(flowsolve.EDM(0.01), ${run.states.length - 1})`);
    lines.push("run = flowsolve.solve(", "    model,", `    solver="${solver}",`, `    nfe=${n},`);
    if (etaOf(state) !== "0") {
      const draws = D.noises.slice(0, Math.max(0, run.states.length - 2)).map((draw) => `[[${draw[+state.path - 1]}]]`);
      lines.push(`    eta=${state.eta},`);
      if (plane) lines.push("    noise=z[1:],");
      else if (draws.length) lines.push(`    noise=torch.tensor([${draws.join(", ")}], dtype=torch.float64),`);
    }
    if (karras) lines.push('    grid=[process.at("sigma", level.sigma).t for level in levels],');
    else {
      if (!own(solver)) lines.push(`    grid="${grid === "logistic" ? "logistic(low=1.5)" : grid}",`);
      lines.push("    span=(top.t, None),");
    }
    const start = plane ? "z[0]" : `torch.tensor([[${D.starts[+state.path - 1]}]], dtype=torch.float64)`;
    lines.push(`    start=top.R.value * ${start},`, ")",
      plane ? `print(run.x[0].tolist())  # ${run.x.map((v) => v.toFixed(6)).join(", ")}` : `print(run.x.item())  # ${run.x.toFixed(6)}`);
    return lines.join("\n");
  }

  const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");

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

  return {KEYS, own, read, hashOf, runs, legs, noiseOf, view, panel, noisePanel, errors, chart, rows, sentence, code, still};
})();

if (typeof module === "object") module.exports = Explorer;
