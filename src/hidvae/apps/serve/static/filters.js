// Filters of the list: chips for tags and items, how many per tag, how much variety.

import { pathsOf, SEPARATOR, tagDepth, titleOf } from "./catalogue.js";
import { announce, el, replace } from "./dom.js";
import { change, state } from "./state.js";

const chips = document.getElementById("chips");
const menu = document.getElementById("tag-menu");
const controls = {
  k: document.getElementById("k"),
  mostPerTag: document.getElementById("most-per-tag"),
  tagLevel: document.getElementById("tag-level"),
  diversity: document.getElementById("diversity"),
};

/** Filters as the server takes them. */
export function filtersOf(shown) {
  return {
    under: shown.under,
    not_under: shown.notUnder,
    without: shown.without,
    most_per_tag: shown.mostPerTag,
    tag_level: shown.tagLevel,
    diversity: shown.diversity,
  };
}

/** Chips of one kind; a click takes the filter back. */
const KINDS = [
  { field: "under", label: "Only", name: (path) => path },
  { field: "notUnder", label: "Not", name: (path) => path },
  { field: "without", label: "Without", name: titleOf },
];

export function renderFilters(shown) {
  const all = KINDS.flatMap(({ field, label, name }) =>
    shown[field].map((value) =>
      el(
        "li",
        {},
        el(
          "button",
          {
            type: "button",
            class: `chip ${field}`,
            "data-key": `${field} ${value}`,
            "aria-label": `Take back: ${label} ${name(value)}`,
            onclick: () => change({ [field]: shown[field].filter((other) => other !== value) }),
          },
          el("span", {}, `${label} `, el("b", {}, name(value))),
          el("span", { "aria-hidden": "true" }, " ×"),
        ),
      ),
    ),
  );
  replace(chips, all.length ? el("ul", {}, all) : null);
  for (const [field, control] of Object.entries(controls)) control.value = shown[field];
  controls.tagLevel.disabled = shown.mostPerTag === 0;
  showDiversity();
}

function showDiversity() {
  const value = Number(controls.diversity.value);
  document.getElementById("diversity-value").textContent = value ? value.toFixed(2) : "off";
}

/** Buttons of a predicted path, one per level; a click offers what to do with the tag. */
export function tagButtons(root, names) {
  const paths = pathsOf(root, names);
  return names.map((name, level) =>
    paths[level]
      ? el(
          "button",
          {
            type: "button",
            class: "tag",
            "aria-haspopup": "dialog",
            "data-key": `tag ${paths[level]}`,
            onclick: (event) => openMenu(event.currentTarget, paths[level]),
          },
          name,
        )
      : el("span", { class: "tag" }, name),
  );
}

function openMenu(button, path) {
  const choose = (field, heard) => () => {
    menu.hidePopover();
    button.focus();
    const other = field === "under" ? "notUnder" : "under";
    announce(`${heard} ${path}`);
    change({
      [field]: [...new Set([...state[field], path])],
      [other]: state[other].filter((tag) => tag !== path),
    });
  };
  menu.replaceChildren(
    el("p", { id: "tag-menu-path" }, path.split(SEPARATOR).join(" › ")),
    el("button", { type: "button", onclick: choose("under", "Only") }, "Only this"),
    el("button", { type: "button", onclick: choose("notUnder", "Not") }, "Not this"),
    el(
      "button",
      {
        type: "button",
        onclick: () => {
          menu.hidePopover();
          change({ view: "tree", by: "tag", path });
        },
      },
      "Show in the tree",
    ),
  );
  menu.showPopover();
  const place = button.getBoundingClientRect();
  const left = Math.min(place.left, document.documentElement.clientWidth - menu.offsetWidth - 8);
  const below = place.bottom + 4;
  const top = below + menu.offsetHeight > innerHeight ? place.top - menu.offsetHeight - 4 : below;
  menu.style.left = `${scrollX + Math.max(8, left)}px`;
  menu.style.top = `${scrollY + Math.max(8, top)}px`;
  menu.querySelector("button").focus();
}

/** Offer as many levels as there are tags. */
export function fillLevels(root) {
  if (controls.tagLevel.options.length) return;
  for (let level = 0; level < Math.max(tagDepth(root), 1); level += 1) {
    controls.tagLevel.append(el("option", { value: level }, `level ${level + 1}`));
  }
  controls.tagLevel.value = state.tagLevel;
}

export function startFilters() {
  for (const [field, control] of Object.entries(controls)) {
    control.addEventListener("change", () => change({ [field]: Number(control.value) }));
  }
  controls.diversity.addEventListener("input", showDiversity);
}
