"use strict";
// The page is complete without this script; it adds sorting, filtering and choosing.

const all = (selector, root = document) => [...root.querySelectorAll(selector)];

function element(tag, attributes, text) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

// Sorting: every column of a sortable table gets a button.
function sortable(table) {
  const body = table.tBodies[0];
  const heads = all("thead th", table);
  heads.forEach((head, column) => {
    const button = element("button", { type: "button", class: "sort" });
    while (head.firstChild) button.append(head.firstChild);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
      const rows = [...body.rows].map((row) => [key(row), row]);
      rows.sort(([a], [b]) => {
        if (a === "" || b === "") return (a === "") - (b === "");
        const order = isNaN(a) || isNaN(b) ? a.localeCompare(b) : Number(a) - Number(b);
        return up ? order : -order;
      });
      body.append(...rows.map(([, row]) => row));
    });
  });
}

// Filtering: the legend's entries become switches for everything that belongs to a solver.
function filter(legend) {
  const off = new Set();
  const entries = all("[data-name]", legend);
  const apply = () => {
    for (const node of all("[data-solver]")) {
      node.classList.toggle("off", off.has(node.dataset.solver));
    }
    for (const entry of entries) {
      entry.firstChild.setAttribute("aria-pressed", String(!off.has(entry.dataset.name)));
    }
  };
  for (const entry of entries) {
    const button = element("button", { type: "button", title: "Show or hide this solver" });
    while (entry.firstChild) button.append(entry.firstChild);
    entry.append(button);
    button.addEventListener("click", () => {
      const name = entry.dataset.name;
      if (!off.delete(name)) off.add(name);
      apply();
    });
  }
  legend.classList.add("live");
  apply();
}

// Choosing: one size and one image of the examples at a time.
function choice(label, values, chosen, changed) {
  const group = element("fieldset", { class: "choice" });
  group.append(element("legend", {}, label));
  for (const value of values) {
    const option = element("label", {});
    const input = element("input", { type: "radio", name: label, value });
    input.checked = value === chosen;
    input.addEventListener("change", () => changed(value));
    option.append(input, element("span", {}, value));
    group.append(option);
  }
  return group;
}

function choose(examples) {
  const sizes = all("details[data-n]", examples);
  const images = [...new Set(all("[data-image]", examples).map((node) => node.dataset.image))];
  let n = sizes[sizes.length - 1].dataset.n;
  let image = images[0];
  const apply = () => {
    for (const size of sizes) {
      size.open = true;
      size.classList.toggle("off", size.dataset.n !== n);
    }
    for (const node of all("[data-image]", examples)) {
      node.classList.toggle("off", node.dataset.image !== image);
    }
  };
  const controls = element("div", { class: "choices" });
  controls.append(
    choice(`${examples.dataset.counted} N`, sizes.map((size) => size.dataset.n), n, (value) => {
      n = value;
      apply();
    }),
    choice("Test image", images, image, (value) => {
      image = value;
      apply();
    }),
  );
  examples.prepend(controls);
  examples.classList.add("live");
  apply();
}

document.documentElement.classList.add("scripted");
all("table.sortable").forEach(sortable);
all(".legend.filter").forEach(filter);
all(".examples").forEach(choose);

// Paper shows what is folded away on the screen.
addEventListener("beforeprint", () => {
  for (const node of all("details.print")) node.open = true;
});
