// The panels of the page "What does a step hold?": states against time, the same runs in x̄ and σ̄,
// of which the first panel is the image, the network's ε̂, and errors against evaluations.
"use strict";

const Pictures = (() => {
  const inNode = typeof module === "object";
  const {denoise} = inNode ? require("./explorer_player.js") : Player;
  const {etaOf, runs, exact, legs, place} = inNode ? require("./explorer_runs.js") : Runs;
  const {across, upward, line, circle, ticks, framed, sofar} = inNode
    ? require("./explorer_svg.js")
    : Svg;

  // How [σ̄, x̄] is shown in a panel, and its axes.
  function view(D, state, name) {
    const {first, times, states} = D.processes[state.process],
      xs = states[states.length - 1];
    const [X, Y] =
      name === "left"
        ? [across(first, 0), upward(-1.3 * xs, 1.3 * xs)]
        : [across(3, 0), upward(-5.2, 5.2)];
    const at = ([sigma, x]) => {
      if (name !== "left") return [X(sigma), Y(x)];
      const {t, A} = place(D, state.process, sigma);
      return [X(t), Y(A * x)];
    };
    const axes =
      name === "left"
        ? {
            x: {at: X, ticks: ticks(times), label: "time t"},
            y: {at: Y, ticks: ticks(states), label: "state x"},
          }
        : {
            x: {at: X, ticks: ticks([3, 2, 1, 0]), label: "noise level σ̄ = R/A"},
            y: {at: Y, ticks: ticks([-4, -2, 0, 2, 4]), label: "x̄ = x/A"},
          };
    return {at, axes};
  }

  function panel(D, state, name, all = runs(D, state)) {
    const {at, axes} = view(D, state, name),
      chosen = +state.path - 1;
    const {means, variance} = D.data[state.data],
      width = Math.max(0.05, 2 * Math.sqrt(variance));
    const law = means.map((m) => line([at([0, m - width]), at([0, m + width])], "law"));
    // The chosen on top.
    const order = [...all.keys()].sort((i, j) => (i === chosen) - (j === chosen));
    const grey = order.map((i) =>
      line(exact(D, state.data, i).map(at), i === chosen ? "exact chosen" : "exact"),
    );
    const drawn = etaOf(state) === "0" ? order : [chosen]; // nine noisy runs are a tangle
    const coloured = drawn.map((i) => {
      const mine = i === chosen ? " chosen" : "",
        {down, up} = legs(D, all[i]);
      const on = new Set(all[i].states.map(({x, level}) => `${level.R} ${x}`));
      const dot = ({x, level}) => {
        const inside = on.has(`${level.R} ${x}`) ? "" : " inside";
        return circle(at([level.R, x]), `asked${mine}${inside}`, mine ? 4 : 2);
      };
      const [ex, ey] = at([0, all[i].x]).map((v) => (v - 4).toFixed(1));
      const end = mine && `<rect class="end" x="${ex}" y="${ey}" width="8" height="8"/>`;
      return (
        down.map((leg) => line(leg.map(at), "run" + mine)).join("") +
        up.map((leg) => line(leg.map(at), "noise" + mine)).join("") +
        all[i].asked.map(dot).join("") +
        end
      );
    });
    const title =
      (name === "left" ? "States x against time t" : "The same runs, x̄ against noise level σ̄") +
      ". Grey: exact paths. Coloured: the solver's.";
    return framed(name, title, axes, law.join("") + grey.join("") + sofar(name, coloured.join("")));
  }

  // The network's ε̂ along the chosen exact path, where the solver has it evaluated, and for ddim
  // what is held in between; all as [σ̄, ε̂].
  function noiseOf(D, state, all) {
    const i = +state.path - 1,
      {asked} = all[i];
    const along = exact(D, state.data, i)
      .filter(([sigma]) => sigma > 0)
      .map(([sigma, x]) => [sigma, denoise(x, {A: 1, R: sigma}, D.data[state.data]).eps]);
    const held =
      state.solver !== "ddim"
        ? []
        : legs(D, all[i]).down.map((leg, k) =>
            [leg[0], leg[leg.length - 1]].map(([sigma]) => [sigma, asked[k].eps]),
          );
    return {along, asked: asked.map(({level, eps}) => [level.R, eps]), held};
  }

  const LOW = 146; // where the frame of the small panel ends

  function noisePanel(D, state, all) {
    const {along, asked, held} = noiseOf(D, state, all),
      {x} = view(D, state, "right").axes;
    const Y = upward(-3, 3, LOW),
      at = ([sigma, eps]) => [x.at(sigma), Y(eps)];
    // Noise breaks the line.
    const steps = etaOf(state) === "0" && held.length ? [held.flat()] : held;
    const mine =
      steps.map((step) => line(step.map(at), "run chosen")).join("") +
      asked.map((one) => circle(at(one), "asked chosen", 4)).join("");
    const y = {at: Y, ticks: ticks([-2, 0, 2]), label: `ε̂, path ${state.path}`};
    return framed(
      "noise",
      `The network’s ε̂ along exact path ${state.path}, grey, and where the solver asks, dots`,
      {x, y},
      line([at([3.5, 0]), at([-0.5, 0])], "zero") +
        line(along.map(at), "exact chosen") +
        sofar("noise", mine),
      LOW,
    );
  }

  const FLOOR = -5; // of the chart, a power of ten

  function chart(D, state, table) {
    const counts = D.counts,
      X = across(0, Math.log(counts[counts.length - 1])),
      Y = upward(FLOOR, 0.5);
    const point = (n, error) => [X(Math.log(n)), Y(Math.max(FLOOR, Math.log10(error)))];
    const axes = {
      x: {at: (n) => X(Math.log(n)), ticks: ticks(counts), label: "evaluations of the network"},
      y: {
        at: Y,
        ticks: [
          [0, "1"],
          [-1, "0.1"],
          [-2, "10⁻²"],
          [-3, "10⁻³"],
          [-4, "10⁻⁴"],
          [FLOOR, "≤10⁻⁵"],
        ],
        label: "mean error",
      },
    };
    const curves = [...table]
      .sort(([a], [b]) => (a === state.solver) - (b === state.solver))
      .map(([solver, all]) => {
        const mine = solver === state.solver,
          points = all.map((error, k) => point(counts[k], error));
        return (
          `<g><title>${solver}</title>${line(points, mine ? "run chosen" : "other")}` +
          (mine ? circle(points[counts.indexOf(+state.n)], "asked chosen", 4) : "") +
          "</g>"
        );
      });
    return framed(
      "chart",
      "Mean error of the nine paths against evaluations, a line for each solver",
      axes,
      curves.join(""),
    );
  }

  return {view, panel, noiseOf, noisePanel, chart};
})();

if (typeof module === "object") module.exports = Pictures;
