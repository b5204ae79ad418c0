// The second picture of the page "What does a step hold?": points of the plane, moved from noise to
// data by the same plans. It is drawn in x̄/√(1+σ̄²), which has about the size of the data at all
// levels.
"use strict";

const Plane = (() => {
  const inNode = typeof module === "object";
  const {goal, play} = inNode ? require("./explorer_player.js") : Player;
  const {line, circle} = inNode ? require("./explorer_svg.js") : Svg;

  const SIZE = 360,
    REACH = 2.7; // of the picture, and what its half is
  const at = (sigma, point) => {
    const [x, y] = point.map((v) => v / Math.hypot(1, sigma) / REACH);
    return [(SIZE / 2) * (1 + x), (SIZE / 2) * (1 - y)];
  };

  // One run from each stored start. A start is R z, so x̄ = σ̄ z.
  const runs = ({plane, top}, program) =>
    plane.starts.map((z, i) =>
      play(
        program,
        z.map((v) => top * v),
        plane,
        plane.noises.map((draw) => draw[i]),
      ),
    );

  const meanError = ({plane}, all) =>
    all.reduce(
      (sum, {x}, i) => sum + Math.hypot(x[0] - plane.ends[i][0], x[1] - plane.ends[i][1]),
      0,
    ) / all.length;

  // On the straight way from a state to where its step goes.
  const between = (from, to, sigma) => {
    const s = from.level.R,
      end = goal(to),
      part = (s - sigma) / (s - end.sigma);
    return from.x.map((v, j) => v + part * (end.x[j] - v));
  };

  // x̄ of a run at a noise level.
  function where({states}, sigma) {
    const k = states.findIndex(({level}) => level.R <= sigma);
    return states[k].level.R === sigma || k === 0
      ? states[k].x
      : between(states[k - 1], states[k], sigma);
  }

  // A run as a curve; fresh noise is a straight leap.
  const path = (D, {states}) =>
    states.slice(1).reduce(
      (points, to, k) => {
        const from = states[k],
          end = goal(to),
          way = D.sigmas.filter((v, i) => i % 2 && v < from.level.R && v > end.sigma);
        points.push(
          ...way.map((sigma) => at(sigma, between(from, to, sigma))),
          at(end.sigma, end.x),
          at(to.level.R, to.x),
        );
        return points;
      },
      [at(states[0].level.R, states[0].x)],
    );

  const dots = (all, sigma) =>
    all.map((run) => circle(at(sigma, where(run, sigma)), "point", 2.6)).join("");

  function picture(D, all, sigma) {
    const {means, variance, starts, ends} = D.plane,
      r = (SIZE / 2 / REACH) * 2 * Math.sqrt(variance);
    return (
      "<title>Points moved from noise to data. Green: the data. Coloured: the solver’s points " +
      "and their paths. Rings: where exact paths end.</title>" +
      `<rect class="frame" x="0.5" y="0.5" width="${SIZE - 1}" height="${SIZE - 1}"/>` +
      means.map((mean) => circle(at(0, mean), "cloud", r.toFixed(1))).join("") +
      all
        .map((run) =>
          line(path(D, run), run.states.some(({spread}) => spread) ? "faint noisy" : "faint"),
        )
        .join("") +
      starts.map((z) => circle(at(0, z), "start", 1.4)).join("") +
      ends.map((end) => circle(at(0, end), "ring", 3.6)).join("") +
      `<g class="dots">${dots(all, sigma)}</g>`
    );
  }

  return {runs, meanError, where, dots, picture};
})();

if (typeof module === "object") module.exports = Plane;
