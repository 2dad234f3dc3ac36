// What the page has learned about items and tags.

import { getItem, getTags } from "./api.js";

export const SEPARATOR = " > ";
const NUM_HUES = 8;

const titles = new Map();
let tags;

/** The root of the tag tree, with all its children; asked for until there is an answer. */
export function tagTree() {
  tags ??= getTags().catch((error) => {
    tags = undefined;
    throw error;
  });
  return tags;
}

/** Remember items that some answer named. */
export function remember(items) {
  for (const item of items) titles.set(item.item_id, item.title);
  return items;
}

export function titleOf(id) {
  return titles.get(id) ?? id;
}

/** Ask for the titles that are not known yet; an item that does not exist keeps its id. */
export async function learnTitles(ids) {
  const unknown = ids.filter((id) => !titles.has(id));
  const found = await Promise.allSettled(unknown.map((id) => getItem(id)));
  found.forEach(({ value }, place) => titles.set(unknown[place], value?.title ?? unknown[place]));
}

/** The node of a tag path, or undefined; an empty path is the root. */
export function tagNode(root, path) {
  let node = root;
  for (const name of path ? path.split(SEPARATOR) : []) {
    node = node?.children.find((child) => child.name === name);
  }
  return node;
}

/**
 * Tag paths of a predicted path, level by level. Each level is predicted on its own, so the names
 * need not lie below each other: then it is the path of the catalogue that ends in that name.
 */
export function pathsOf(root, names) {
  return names.map((name, level) => {
    const path = names.slice(0, level + 1).join(SEPARATOR);
    return tagNode(root, path) ? path : findPath(root, name, level);
  });
}

function findPath(node, name, level) {
  if (level < 0) return null;
  for (const child of node.children) {
    if (level === 0 && child.name === name) return child.path;
    const found = findPath(child, name, level - 1);
    if (found) return found;
  }
  return null;
}

/** Number of levels of tags. */
export function tagDepth(node) {
  return node.children.length ? 1 + Math.max(...node.children.map(tagDepth)) : 0;
}

/** Class of the colour of a top tag. */
export function hueOf(root, name) {
  const place = root.children.findIndex((child) => child.name === name);
  return place < 0 ? "hue-none" : `hue-${place % NUM_HUES}`;
}

/** `<a_12>` as people read it. */
export function plainCode(code) {
  return code.replace(/[<>]/g, "");
}
