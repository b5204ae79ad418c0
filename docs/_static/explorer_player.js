// Plays a plan of flowsolve, the program of its file, on a mixture of Gaussians: on numbers, or on
// points, which are arrays. There is no solver in here: what a step does is in the plan's numbers.
"use strict";

const Player = (() => {
  const vector = (v) => (Array.isArray(v) ? v : [v]);

  // The exact x̂0 and ε̂ at a state on a level {A, R}; data are weights[k] N(means[k], variance).
  function denoise(x, {A, R}, {weights, means, variance}) {
    const v = A * A * variance + R * R,
      point = vector(x),
      at = means.map(vector);
    const logs = at.map(
      (mean, k) =>
        Math.log(weights[k]) -
        mean.reduce((sum, m, j) => sum + (point[j] - A * m) ** 2, 0) / (2 * v),
    );
    const most = Math.max(...logs),
      parts = logs.map((log) => Math.exp(log - most));
    const all = parts.reduce((sum, part) => sum + part),
      x0 = point.map(() => 0),
      eps = point.map(() => 0);
    parts.forEach((part, k) =>
      at[k].forEach((m, j) => {
        const away = point[j] - A * m;
        x0[j] += (part / all) * (m + (A * variance * away) / v);
        eps[j] += (part / all) * ((R * away) / v);
      }),
    );
    return Array.isArray(x) ? {x0, eps} : {x0: x0[0], eps: eps[0]};
  }

  // Factors times values, [[factor, value], ...].
  const sum = (terms) => {
    const of = (get) => terms.reduce((all, [factor, value]) => all + factor * get(value), 0);
    return Array.isArray(terms[0][1])
      ? terms[0][1].map((_, j) => of((value) => value[j]))
      : of((value) => value);
  };

  const answers = {
    noise: ({eps}) => eps,
    data: ({x0}) => x0,
    flow: ({x0, eps}) =>
      sum([
        [1, eps],
        [-1, x0],
      ]),
  };

  // From a start to the end; noises[k] is draw k. Gives the result, the states at which steps end,
  // and those at which the network is asked. Where a step draws noise, `before` is its state
  // without, and `spread` what the noise is multiplied by.
  function play(program, start, law, noises = []) {
    const value = {},
      states = [],
      asked = [],
      drawn = {};
    let draws = 0,
      noisy = {};
    for (const line of program) {
      if ("start" in line) {
        value[line.start] = start;
        states.push({x: start, level: line.level});
      } else if ("evaluate" in line) {
        const x = value[line.evaluate],
          both = denoise(x, line.level, law);
        value[line.is] = answers[line.coordinates](both);
        asked.push({x, level: line.level, ...both});
      } else if ("noise" in line) {
        value[line.noise] = noises[draws++];
        drawn[line.noise] = true;
      } else if ("sum" in line) {
        const names = Object.keys(line.sum),
          term = (name) => [line.sum[name], value[name]];
        const fresh = names.find((name) => drawn[name]);
        value[line.is] = sum(names.map(term));
        noisy = fresh
          ? {before: sum(names.filter((name) => !drawn[name]).map(term)), spread: line.sum[fresh]}
          : {};
      } else if ("arrive" in line) {
        states.push({x: value[line.arrive], level: line.level, ...noisy});
        noisy = {};
      }
    }
    return {x: states[states.length - 1].x, states, asked};
  }

  // Where a step goes, σ̄ and x̄ of a plan in these: to a state, or with noise first to a quieter
  // level.
  const goal = ({x, level: {R}, before, spread}) =>
    spread === undefined
      ? {sigma: R, x}
      : {sigma: Math.sqrt(Math.max(0, R * R - spread ** 2)), x: before};

  // The program of a stored plan: its shape, with numbers in the place of their places.
  const unpack = (data, [shape, numbers]) =>
    JSON.parse(JSON.stringify(data.shapes[shape]), (_, v) =>
      typeof v === "number" ? numbers[v] : v,
    );

  return {denoise, play, goal, unpack};
})();

if (typeof module === "object") module.exports = Player;
