// Reads a JSON list of [TeX, whether it is a display] on stdin, writes a JSON list of {mathml} or {error}.
// The vendored file is made for browsers; its TeX parser needs no page, so objects that answer everything stand in for one.
const fs = require("fs");
const vm = require("vm");

const anything = new Proxy(function () {}, {
  get: (_, key) =>
    key === Symbol.toPrimitive ? () => "" : key === Symbol.iterator ? () => [][Symbol.iterator]() : key === "then" ? undefined : key === "length" ? 0 : anything,
  apply: () => anything,
  construct: () => anything,
  set: () => true,
});
for (const name of ["Document", "DocumentFragment", "HTMLElement", "NodeList", "HTMLCollection"]) global[name] = class {};
global.window = global;
global.document = new Proxy(anything, { getPrototypeOf: () => Document.prototype });
global.location = { href: "" };
global.localStorage = { getItem: () => null, setItem: () => null };
global.DOMParser = class {};
global.MathJax = {
  startup: { typeset: false, pageReady: () => Promise.resolve() },
  options: { enableMenu: false },
  tex: {
    packages: { "[-]": ["noerrors", "noundefined"] },
    formatError: (_, error) => {
      throw error;
    },
  },
};
vm.runInThisContext(fs.readFileSync(process.argv[2], "utf8"), { displayErrors: false });

function typeset([tex, display]) {
  try {
    MathJax.texReset();
    const mathml = MathJax.tex2mml(tex, { display });
    const error = /data-mjx-error="([^"]*)"/.exec(mathml);
    return error ? { error: error[1] } : { mathml };
  } catch (error) {
    return { error: error.message || String(error) };
  }
}

const started = Date.now();
(function wait() {
  if (MathJax.tex2mml) {
    process.stdout.write(JSON.stringify(JSON.parse(fs.readFileSync(0, "utf8")).map(typeset)));
  } else if (Date.now() - started < 20000) {
    setTimeout(wait, 20);
  } else {
    throw new Error("MathJax did not start");
  }
})();
