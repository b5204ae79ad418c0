// Plays a plan of flowsolve, the program of its file, on a mixture of Gaussians in one dimension.
// There is no solver in here: what a step does is in the plan's numbers.
"use strict";

const Player = (() => {
  // The exact x̂0 and ε̂ at a state on a level {A, R}; data are weights[k] N(means[k], variance).
  function denoise(x, {A, R}, {weights, means, variance}) {
    const v = A * A * variance + R * R;
    const away = means.map((mean) => x - A * mean);
    const logs = away.map((d, k) => Math.log(weights[k]) - (d * d) / (2 * v));
    const most = Math.max(...logs);
    const parts = logs.map((log) => Math.exp(log - most));
    const all = parts.reduce((sum, part) => sum + part);
    let x0 = 0, eps = 0;
    parts.forEach((part, k) => {
      x0 += (part / all) * (means[k] + (A * variance * away[k]) / v);
      eps += (part / all) * ((R * away[k]) / v);
    });
    return {x0, eps};
  }

  const answers = {noise: ({eps}) => eps, data: ({x0}) => x0, flow: ({x0, eps}) => eps - x0};

  // From a start to the end; noises[k] is draw k. Gives the result, the states at which steps end,
  // and those at which the network is asked. Where a step draws noise, `before` is its state
  // without, and `spread` what the noise is multiplied by.
  function play(program, start, law, noises = []) {
    const value = {}, states = [], asked = [], drawn = {};
    let draws = 0, noisy = {};
    for (const line of program) {
      if ("start" in line) {
        value[line.start] = start;
        states.push({x: start, level: line.level});
      } else if ("evaluate" in line) {
        const x = value[line.evaluate], both = denoise(x, line.level, law);
        value[line.is] = answers[line.coordinates](both);
        asked.push({x, level: line.level, ...both});
      } else if ("noise" in line) {
        value[line.noise] = noises[draws++];
        drawn[line.noise] = true;
      } else if ("sum" in line) {
        let sum = 0, before = 0, spread = 0;
        for (const [name, factor] of Object.entries(line.sum)) {
          sum += factor * value[name];
          if (drawn[name]) spread = factor;
          else before += factor * value[name];
        }
        value[line.is] = sum;
        noisy = spread ? {before, spread} : {};
      } else if ("arrive" in line) {
        states.push({x: value[line.arrive], level: line.level, ...noisy});
        noisy = {};
      }
    }
    return {x: states[states.length - 1].x, states, asked};
  }

  // The program of a stored plan: its shape, with numbers in the place of their places.
  const unpack = (data, [shape, numbers]) =>
    JSON.parse(JSON.stringify(data.shapes[shape]), (_, v) => (typeof v === "number" ? numbers[v] : v));

  return {denoise, play, unpack};
})();

if (typeof module === "object") module.exports = Player;
