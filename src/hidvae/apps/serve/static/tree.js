// Walk the catalogue down to its items: by the codes of the semantic IDs, or by the tags.

import { findItems, getNode, latest } from "./api.js";
import { hueOf, plainCode, remember, SEPARATOR, tagNode, tagTree } from "./catalogue.js";
import { announce, count, el, percent, replace, showProblem } from "./dom.js";
import { itemList } from "./search.js";
import { change, linkTo, state } from "./state.js";
import { treemap } from "./treemap.js";

const SHOWN = 20; // items at a time
const place = document.getElementById("place");
const drawing = document.getElementById("drawing");
const found = document.getElementById("tree-items");
const ways = { code: document.getElementById("by-code"), tag: document.getElementById("by-tag") };

let draw = () => {}; // again, at another width

export const renderTree = latest(async (signal, shown) => {
  for (const [way, button] of Object.entries(ways)) {
    button.setAttribute("aria-pressed", shown.by === way);
  }
  drawing.setAttribute("aria-busy", "true");
  try {
    const root = await tagTree();
    await (shown.by === "tag" ? showTag(root, shown, signal) : showCode(root, shown, signal));
    drawing.removeAttribute("aria-busy");
  } catch (error) {
    if (!signal.aborted) showItems([]);
    showProblem(drawing, error, () => renderTree(state));
  }
});

async function showCode(root, shown, signal) {
  const node = await getNode(shown.prefix, SHOWN, signal);
  const codes = shown.prefix.map(plainCode);
  showPlace(
    [
      { name: "all codes", link: linkTo({ prefix: [] }) },
      ...codes.map((name, level) => ({
        name,
        link: linkTo({ prefix: shown.prefix.slice(0, level + 1) }),
      })),
    ],
    `${count(node.count, "item")}${tagged(node)}`,
  );
  const groups = new Map();
  for (const child of node.children) {
    const names = child.tag?.split(SEPARATOR) ?? [];
    const name = names.at(-1) ?? "no tag";
    if (!groups.has(name)) groups.set(name, { name, hue: hueOf(root, names[0]), tiles: [] });
    groups.get(name).tiles.push({
      lines: [plainCode(child.code), `${child.count}`],
      heard: `${plainCode(child.code)}: ${count(child.count, "item")}${tagged(child)}`,
      count: child.count,
      purity: child.purity ?? 0,
      link: linkTo({ prefix: [...shown.prefix, child.code] }),
    });
  }
  const areItemsAll = node.items.length === node.count;
  const saysMore = node.children.some((child) => child.count > 1) || !areItemsAll;
  showTiles(saysMore ? [...groups.values()] : [], `Codes after ${codes.join(" ") || "nothing"}`);
  showItems(node.items, areItemsAll ? "Items" : "The most popular items of these");
}

function tagged({ tag, purity }) {
  return tag ? `, ${percent(purity)} of them ${tag}` : "";
}

async function showTag(root, shown, signal) {
  const node = tagNode(root, shown.path);
  const names = shown.path ? shown.path.split(SEPARATOR) : [];
  const steps = names.map((name, level) => ({
    name,
    link: linkTo({ path: names.slice(0, level + 1).join(SEPARATOR) }),
  }));
  const top = [{ name: "all tags", link: linkTo({ path: "" }) }, ...steps];
  if (!node) {
    showPlace(top, `There is no tag “${shown.path}”`);
    showTiles([]);
    showItems([]);
    return;
  }
  const steer = el(
    "button",
    {
      type: "button",
      onclick: () => change({ view: "recommend", under: [shown.path], notUnder: [] }),
    },
    "Recommend only from here",
  );
  showPlace(top, count(node.count, "item"), shown.path ? steer : null);
  showTiles(
    node.children.map((child) => ({
      name: child.name,
      hue: hueOf(root, names[0] ?? child.name),
      tiles: (child.children.length && !shown.path ? child.children : [child]).map(tagTile),
    })),
    `Tags under ${shown.path || "the root"}`,
  );
  await showItemsUnder(shown.path, signal);
}

function tagTile(node) {
  return {
    lines: [node.name, `${node.count}`],
    heard: `${node.path}: ${count(node.count, "item")}`,
    count: node.count,
    purity: 1,
    link: linkTo({ path: node.path }),
  };
}

async function showItemsUnder(path, signal) {
  const items = [];
  const more = async () => {
    try {
      const page = await findItems({ under: path, limit: SHOWN, offset: items.length }, signal);
      items.push(...page.items);
      showItems(items, "The most popular items first", items.length < page.total ? more : null);
    } catch (error) {
      showProblem(found, error, more);
    }
  };
  await more();
}

function showPlace(steps, text, action = null) {
  const last = steps.length - 1;
  replace(
    place,
    el(
      "nav",
      { "aria-label": "Place in the tree" },
      el(
        "ol",
        { class: "steps" },
        steps.map(({ name, link }, level) =>
          el(
            "li",
            {},
            el(
              "a",
              {
                ...link,
                "data-key": `step ${level}`,
                "aria-current": level === last && "page",
              },
              name,
            ),
          ),
        ),
      ),
    ),
    el("p", { class: "note" }, text),
    action,
  );
  announce(`${steps[last].name}: ${text}`);
}

function showTiles(groups, label) {
  document.getElementById("drawing-key").hidden = !groups.length;
  draw = () => {
    const width = drawing.clientWidth;
    const height = Math.max(360, Math.min(560, 0.55 * width));
    replace(drawing, groups.length ? treemap(groups, width, height, label) : null);
  };
  draw();
}

function showItems(items, heading = "", more = null) {
  remember(items);
  replace(
    found,
    items.length ? el("h3", {}, heading) : null,
    items.length ? itemList(items) : null,
    more ? el("button", { type: "button", "data-key": "more", onclick: more }, "More items") : null,
  );
}

export function startTree() {
  for (const [way, button] of Object.entries(ways)) {
    button.addEventListener("click", () => change({ by: way }));
  }
  let width = 0;
  new ResizeObserver(() => {
    if (drawing.clientWidth === width || !drawing.clientWidth) return;
    width = drawing.clientWidth;
    draw();
  }).observe(drawing);
}
