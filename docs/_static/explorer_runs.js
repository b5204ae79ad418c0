// What is chosen on the page "What does a step hold?", its address, and the runs that are shown.
// Everything is in x̄ = x/A and σ̄ = R/A.
"use strict";

const Runs = (() => {
  const inNode = typeof module === "object";
  const {play, goal, unpack} = inNode ? require("./explorer_player.js") : Player;
  const {runs: planeRuns} = inNode ? require("./explorer_plane.js") : Plane;

  // ---- The state of the page, and its hash -------------------------------------------------

  const initial = {
    view: "line",
    data: "two",
    process: "vp",
    solver: "ddim",
    n: "4",
    grid: "logistic",
    eta: "0",
    path: "4",
    level: "last",
  };

  // What a picture depends on, and so what its address holds.
  const SHARED = ["process", "solver", "n", "grid", "eta"];
  const KEYS = {line: ["data", ...SHARED, "path"], plane: ["view", ...SHARED, "level"]};

  const choices = (D) => ({
    view: Object.keys(KEYS),
    data: Object.keys(D.data),
    process: Object.keys(D.processes),
    solver: D.solvers,
    n: D.counts.map(String),
    grid: Object.keys(D.grids),
    eta: D.etas.map(String),
    path: D.starts.map((_, i) => String(i + 1)),
    level: [...D.sigmas.slice(0, -1).map((_, k) => String(k)), "last"],
  });

  // What a hash says; what it does not say, or says wrongly, is as at the beginning.
  function read(D, hash) {
    const said = new URLSearchParams(hash.replace(/^#/, "")),
      allowed = choices(D),
      state = {};
    for (const [key, value] of Object.entries(initial))
      state[key] = allowed[key].includes(said.get(key)) ? said.get(key) : value;
    return state;
  }

  const hashOf = (state) =>
    "#" + new URLSearchParams(KEYS[state.view].map((key) => [key, state[key]]));

  // ---- Runs --------------------------------------------------------------------------------

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
    return D.starts.map((z, i) =>
      play(
        program,
        D.top * z,
        D.data[state.data],
        D.noises.map((draw) => draw[i]),
      ),
    );
  }

  function meanError(D, state, all = runs(D, state)) {
    const ends = D.data[state.data].ends;
    return all.reduce((sum, run, i) => sum + Math.abs(run.x - ends[i]), 0) / ends.length;
  }

  const exact = (D, data, i) =>
    // [σ̄, x̄] on the exact path from start i
    D.sigmas.map((sigma, k) => [
      sigma,
      sigma * D.starts[i] + D.data[data].rest[i][k] / 10 ** D.places,
    ]);

  // The solver's path as curves [σ̄, x̄]: from each state a straight line to the next, which is
  // what ddim holds; with noise first down to the quieter level, then back up.
  function legs(D, run) {
    const down = [],
      up = [];
    run.states.slice(1).forEach((to, k) => {
      const from = run.states[k],
        s = from.level.R,
        t = to.level.R;
      const {sigma: end, x} = goal(to);
      const between = D.sigmas.filter((sigma) => sigma < s && sigma > end);
      down.push([
        [s, from.x],
        ...between.map((v) => [v, x + ((from.x - x) * (v - end)) / (s - end)]),
        [end, x],
      ]);
      if ("before" in to)
        up.push([
          [end, x],
          [t, to.x],
        ]);
    });
    return {down, up};
  }

  // Time and A at a noise level: between the table's levels straight in σ̄/(1+σ̄).
  function place(D, process, sigma) {
    const {t, A} = D.processes[process],
      u = (v) => v / (1 + v);
    const k = Math.max(
        1,
        D.sigmas.findIndex((v) => v <= sigma),
      ),
      a = D.sigmas[k - 1],
      b = D.sigmas[k];
    const part = (u(a) - u(Math.min(sigma, a))) / (u(a) - u(b));
    return {t: t[k - 1] + part * (t[k] - t[k - 1]), A: A[k - 1] + part * (A[k] - A[k - 1])};
  }

  // The mean error of every solver against the evaluations, without noise; kept until the run is
  // another one for all of them.
  let kept = {};
  function errors(D, {data, process, grid}) {
    const key = [data, process, grid].join();
    const error = (solver, n) => meanError(D, {data, process, grid, solver, n, eta: "0"});
    if (kept.key !== key)
      kept = {
        key,
        table: D.solvers.map((solver) => [solver, D.counts.map((n) => error(solver, n))]),
      };
    return kept.table;
  }

  return {KEYS, read, hashOf, own, etaOf, runs, meanError, errors, exact, legs, place};
})();

if (typeof module === "object") module.exports = Runs;
