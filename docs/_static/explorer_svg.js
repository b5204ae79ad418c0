// How the pictures of the page "What does a step hold?" are written, as SVG: frames, axes, lines.
"use strict";

const Svg = (() => {
  const WIDTH = 360,
    FRAME = {left: 50, right: 352, top: 8, bottom: 246},
    INSET = 8,
    BELOW = 44;
  const scale = (from, to, a, b) => (v) => a + ((v - from) / (to - from)) * (b - a);
  const across = (from, to) => scale(from, to, FRAME.left + INSET, FRAME.right - INSET);
  const upward = (from, to, bottom = FRAME.bottom) =>
    scale(from, to, bottom - INSET, FRAME.top + INSET);
  const place = (point) => point.map((v) => v.toFixed(1)).join(" ");
  const line = (points, kind) => `<path class="${kind}" d="M${points.map(place).join("L")}"/>`;
  const circle = ([x, y], kind, r) =>
    `<circle class="${kind}" cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="${r}"/>`;
  const minus = (text) => String(text).replace("-", "−");
  const ticks = (values) => values.map((v) => [v, minus(v)]);

  // An SVG's content: a title, a frame with axes, and a drawing that is clipped by it.
  function framed(name, title, axes, drawing, bottom = FRAME.bottom) {
    const {left, right, top} = FRAME,
      across = (left + right) / 2,
      up = (top + bottom) / 2;
    const x = axes.x.ticks.map(
      ([v, text]) =>
        `<path class="tick" d="M${axes.x.at(v)} ${bottom}v4"/>` +
        `<text x="${axes.x.at(v)}" y="${bottom + 17}" text-anchor="middle">${text}</text>`,
    );
    const y = axes.y.ticks.map(
      ([v, text]) =>
        `<path class="tick" d="M${left} ${axes.y.at(v)}h-4"/>` +
        `<text x="${left - 7}" y="${axes.y.at(v) + 4}" text-anchor="end">${text}</text>`,
    );
    const box = `x="${left}" y="${top}" width="${right - left}" height="${bottom - top}"`;
    return (
      `<title>${title}</title><defs><clipPath id="explorer-${name}"><rect ${box}/></clipPath>` +
      `<clipPath id="explorer-${name}-now"><rect class="now" ${box}/></clipPath></defs>` +
      `<rect class="frame" ${box}/>${x.join("")}${y.join("")}` +
      `<text x="${across}" y="${bottom + BELOW - 6}" text-anchor="middle">${axes.x.label}</text>` +
      `<text x="9" y="${up}" text-anchor="middle" transform="rotate(-90 9 ${up})">` +
      `${axes.y.label}</text><g clip-path="url(#explorer-${name})">${drawing}</g>`
    );
  }

  // What is drawn of a run as far as Play has come.
  const sofar = (name, drawing) => `<g clip-path="url(#explorer-${name}-now)">${drawing}</g>`;

  return {
    WIDTH,
    HEIGHT: FRAME.bottom + BELOW,
    FRAME,
    across,
    upward,
    line,
    circle,
    minus,
    ticks,
    framed,
    sofar,
  };
})();

if (typeof module === "object") module.exports = Svg;
