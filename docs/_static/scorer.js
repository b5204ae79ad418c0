// How pages are ranked in a search: what explains before what lists. Objects are found by their
// names all the same; the numbers are Sphinx's own but for the titles'.
"use strict";

var Scorer = {
  score: ([docname, , , , score, , kind]) =>
    kind !== "object" && /^(api\/|changelog|generated\/)/.test(docname) ? score - 20 : score,
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: {0: 15, 1: 5, 2: -5},
  objPrioDefault: 0,
  title: 25,
  partialTitle: 12,
  term: 5,
  partialTerm: 2,
};
