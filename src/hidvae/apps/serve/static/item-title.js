// How a list names an item: a button that opens it, and its tag path.

import { SEPARATOR } from "./catalogue.js";
import { el } from "./dom.js";
import { change } from "./state.js";

/** A button that opens an item close up. */
export function openButton(id, title) {
  return el(
    "button",
    {
      type: "button",
      class: "title",
      "data-key": `open ${id}`,
      onclick: () => change({ item: id }),
    },
    title,
  );
}

/** The button, and the tag path below it. */
export function titleAndPath(item) {
  return el(
    "div",
    {},
    openButton(item.item_id, item.title),
    el("span", { class: "path" }, item.tag_path.join(SEPARATOR)),
  );
}
