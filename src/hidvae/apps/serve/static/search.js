// Search the catalogue and add what is found to the history.

import { findItems, latest } from "./api.js";
import { remember } from "./catalogue.js";
import { announce, count, el, replace, showProblem } from "./dom.js";
import { titleAndPath } from "./item-title.js";
import { addToHistory } from "./state.js";

const SHOWN = 6;
const PAUSE_MS = 150; // between keys; a fast typist asks once

const input = document.getElementById("search");
const results = document.getElementById("search-results");

const search = latest(async (signal) => {
  const q = input.value.trim();
  if (!q) {
    replace(results);
    return;
  }
  try {
    const found = await findItems({ q, limit: SHOWN }, signal);
    remember(found.items);
    show(found, q);
  } catch (error) {
    showProblem(results, error, search);
  }
});

function show({ total, items }, q) {
  const some = total > items.length ? `${items.length} of ` : "";
  const heard = total
    ? `${some}${count(total, "item")} for “${q}”`
    : `Nothing has “${q}” in its title or id`;
  announce(heard);
  replace(results, el("p", { class: "note" }, heard), itemList(items));
}

/** Items to look at or to add; also used where the tree ends in items. */
export function itemList(items) {
  return el(
    "ul",
    { class: "items" },
    items.map((item) =>
      el(
        "li",
        {},
        titleAndPath(item),
        addButton(item),
      ),
    ),
  );
}

export function addButton(item) {
  return el(
    "button",
    {
      type: "button",
      class: "add",
      "data-key": `add ${item.item_id}`,
      "aria-label": `Add to history: ${item.title}`,
      onclick: () => addToHistory(item.item_id),
    },
    "Add",
  );
}

/** Arrow keys walk from the field through the found items and back. */
function walk(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  const stops = [input, ...results.querySelectorAll(".title")];
  const here = stops.findIndex((stop) => stop.contains(document.activeElement));
  const next = stops[here + step];
  if (!next) return;
  event.preventDefault();
  next.focus();
}

export function startSearch() {
  let timer;
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, PAUSE_MS);
  });
  input.closest("form").addEventListener("submit", (event) => {
    event.preventDefault();
    search();
  });
  input.closest("section").addEventListener("keydown", walk);
}
