// A field over the tables of solvers that shows the rows which have all of its words.
document.addEventListener("DOMContentLoaded", () => {
  for (const field of document.querySelectorAll("input.zoo-filter")) {
    field.closest("div").hidden = false;
    const said = field.closest("div").querySelector("output");
    const rows = [...document.querySelectorAll("table.zoo.solvers tbody tr")];
    const show = () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        row.hidden = !words.every((word) => row.dataset.words.includes(word));
        shown += !row.hidden;
      }
      for (const table of document.querySelectorAll("table.zoo.solvers")) {
        const wrapper = table.closest(".table-wrapper") || table;
        wrapper.hidden = !table.querySelector("tbody tr:not([hidden])");
      }
      said.textContent = `${shown} of ${rows.length}`;
    };
    for (const row of rows) {
      const heads = [...row.closest("table").tHead.rows[0].cells].map((cell) =>
        cell.textContent.trim(),
      );
      const cells = [...row.cells].map((cell, k) => `${heads[k]} ${cell.textContent}`);
      row.dataset.words = cells.join(" ").replace(/\s+/g, " ").toLowerCase();
    }
    field.addEventListener("input", show);
    show();
  }
});
