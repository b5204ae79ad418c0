// The page "What does a step hold?": draws runs of stored plans, and says in words and in Python
// what they are. The data are the JSON that docs/_ext/explorer.py wrote into the page.
"use strict";

const Explorer = (() => {
  const inNode = typeof module === "object";
  const Chosen = inNode ? require("./explorer_runs.js") : Runs;
  const Drawn = inNode ? require("./explorer_pictures.js") : Pictures;
  const {meanError: planeError} = inNode ? require("./explorer_plane.js") : Plane;
  const {WIDTH, HEIGHT, minus} = inNode ? require("./explorer_svg.js") : Svg;
  const {own, etaOf, read, hashOf, runs, meanError} = Chosen;

  const number = (v) => minus(Math.abs(v) < 5e-4 ? "0.000" : v.toFixed(3));
  const errorText = (v) =>
    v < 1e-9 ? "0" : v < 1e-3 ? minus(v.toExponential(1)) : v.toPrecision(2);

  const times = ({asked}) => (asked.length === 1 ? "once" : `${asked.length} times`);

  function planeSentence(D, state, all) {
    const error = errorText(planeError(D, all)),
      asks = `asks the network ${times(all[0])} for each.`,
      who = `${state.solver} moves ${all.length} points from noise to data, and ${asks}`;
    if (etaOf(state) === "0")
      return `${who} On average a point ends ${error} from the end of its exact path.`;
    return (
      `${who} With η = ${state.eta} it adds fresh noise on the way, ` +
      "and a point need not end where its exact path does."
    );
  }

  function sentence(D, state, all) {
    if (state.view === "plane") return planeSentence(D, state, all);
    const i = +state.path - 1,
      run = all[i],
      end = D.data[state.data].ends[i],
      who = `${state.solver} asks the network ${times(run)}.`;
    if (etaOf(state) !== "0")
      return (
        `${who} With η = ${state.eta} it adds fresh noise on the way. ` +
        `Path ${state.path} ends at ${number(run.x)}. ` +
        `Without noise the exact path ends at ${number(end)}, but a noisy run need not follow it.`
      );
    const error = errorText(Math.abs(run.x - end));
    return (
      `${who} Path ${state.path} ends at ${number(run.x)}, the exact path at ${number(end)}: ` +
      (error === "0" ? "no error but rounding. " : `an error of ${error}. `) +
      `The mean error of the nine paths is ${errorText(meanError(D, state, all))}.`
    );
  }

  function code(D, state, all) {
    const {solver, n, grid, process} = state,
      plane = state.view === "plane",
      run = all[plane ? 0 : +state.path - 1],
      karras = grid === "karras" && !own(solver);
    const lines = ["import torch", "import flowsolve"];
    if (karras) lines.push("from flowsolve.grids import Karras");
    const model = plane
      ? [...D.plane.code, ...D.plane.draws]
      : [`model = ${D.data[state.data].code}`];
    lines.push(
      "",
      `process = ${D.processes[process].code}`,
      ...model,
      `top = process.at("sigma", ${D.top})`,
    );
    if (karras)
      lines.push(`levels = Karras().levels(flowsolve.EDM(0.01), ${run.states.length - 1})`);
    lines.push("run = flowsolve.solve(", "    model,", `    solver="${solver}",`, `    nfe=${n},`);
    if (etaOf(state) !== "0") {
      const draws = D.noises
        .slice(0, Math.max(0, run.states.length - 2))
        .map((draw) => `[[${draw[+state.path - 1]}]]`);
      lines.push(`    eta=${state.eta},`);
      if (plane) lines.push("    noise=z[1:],");
      else if (draws.length)
        lines.push(`    noise=torch.tensor([${draws.join(", ")}], dtype=torch.float64),`);
    }
    if (karras) lines.push('    grid=[process.at("sigma", level.sigma).t for level in levels],');
    else {
      if (!own(solver))
        lines.push(`    grid="${grid === "logistic" ? "logistic(low=1.5)" : grid}",`);
      lines.push("    span=(top.t, None),");
    }
    const start = plane
      ? "z[0]"
      : `torch.tensor([[${D.starts[+state.path - 1]}]], dtype=torch.float64)`;
    lines.push(
      `    start=top.R.value * ${start},`,
      ")",
      plane
        ? `print(run.x[0].tolist())  # ${run.x.map((v) => v.toFixed(6)).join(", ")}`
        : `print(run.x.item())  # ${run.x.toFixed(6)}`,
    );
    return lines.join("\n");
  }

  const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");

  function rows(state, table, D) {
    const k = D.counts.indexOf(+state.n);
    const row = ([solver, all]) => {
      const mine = solver === state.solver,
        link = `href="${escaped(hashOf({...state, solver}))}"${mine ? ' aria-current="true"' : ""}`;
      return (
        `<tr${mine ? ' class="chosen"' : ""}><th scope="row"><a ${link}>${solver}</a></th>` +
        `<td>${errorText(all[k])}</td></tr>`
      );
    };
    return table.map(row).join("");
  }

  // What stands in the page for readers without JavaScript.
  function still(D, hash) {
    const state = read(D, hash),
      svg = (name) =>
        `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img">${Drawn.panel(D, state, name)}</svg>`;
    return {pictures: svg("left") + svg("right"), words: sentence(D, state, runs(D, state))};
  }

  return {...Chosen, ...Drawn, rows, sentence, code, still};
})();

if (typeof module === "object") module.exports = Explorer;
