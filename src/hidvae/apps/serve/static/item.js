// One item, close up: its ID and how many share it, what the catalogue knows, what is like it.

import { getItem, latest, similarItems } from "./api.js";
import { plainCode, remember, SEPARATOR } from "./catalogue.js";
import { count, el, percent, replace, showProblem } from "./dom.js";
import { titleAndPath } from "./item-title.js";
import { shared } from "./recommendations.js";
import { addToHistory, change, linkTo, removeFromHistory, state } from "./state.js";

const NUM_SIMILAR = 8;
const dialog = document.getElementById("item");
const body = document.getElementById("item-body");

export const renderItem = latest(async (signal, shown) => {
  if (!shown.item) {
    dialog.close();
    return;
  }
  body.setAttribute("aria-busy", "true");
  if (!dialog.open) dialog.showModal();
  try {
    const [item, similar] = await Promise.all([
      getItem(shown.item, signal),
      similarItems(shown.item, NUM_SIMILAR, signal),
    ]);
    remember([item, ...similar.items]);
    body.removeAttribute("aria-busy");
    show(item, similar.items);
  } catch (error) {
    showProblem(body, error, () => renderItem(state));
  }
});

function show(item, similar) {
  const isKnown = state.history.includes(item.item_id);
  replace(
    body,
    el("h2", { tabindex: -1 }, item.title),
    el("p", { class: "path" }, tagLine(item)),
    el(
      "p",
      { class: "row" },
      el(
        "button",
        {
          type: "button",
          class: "main",
          "data-key": "toggle",
          onclick: () => {
            (isKnown ? removeFromHistory : addToHistory)(item.item_id);
            show(item, similar);
          },
        },
        isKnown ? "Remove from history" : "Add to history",
      ),
    ),
    el("h3", {}, "Its semantic ID"),
    el(
      "ol",
      { class: "prefixes" },
      item.codes.map((code, level) =>
        el(
          "li",
          {},
          el(
            "a",
            {
              class: "code",
              ...linkTo({
                view: "tree",
                by: "code",
                prefix: item.codes.slice(0, level + 1),
                item: "",
              }),
            },
            item.codes.slice(0, level + 1).map(plainCode).join(" "),
          ),
          el("span", { class: "note" }, sharing(item.num_sharing[level])),
        ),
      ),
    ),
    el("h3", {}, "Most like it"),
    el("p", { class: "note" }, "By common codes (squares), then by content (cosine)"),
    el(
      "ol",
      { class: "items similar" },
      similar.map((other) =>
        el(
          "li",
          {},
          titleAndPath(other),
          el(
            "span",
            { class: "likeness" },
            shared(other.shared_levels, item.codes.length),
            el("span", { class: "note" }, other.similarity.toFixed(2)),
          ),
        ),
      ),
    ),
    el("h3", {}, "In the catalogue"),
    el(
      "dl",
      {},
      [["item_id", item.item_id], ...Object.entries(item.fields)]
        .filter(([, value]) => value !== null && value !== "")
        .flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, text(value))]),
    ),
  );
}

function tagLine(item) {
  return item.tag_path
    .map((name, level) => `${name} ${percent(item.tag_confidences[level])}`)
    .join(" › ");
}

function sharing(number) {
  return number === 1 ? "this item alone" : `shared by ${count(number, "item")}`;
}

function text(value) {
  return Array.isArray(value) ? value.join(SEPARATOR) : String(value);
}

export function startItem() {
  dialog.addEventListener("close", () => change({ item: "" }));
  document.getElementById("item-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // the backdrop
  });
}
