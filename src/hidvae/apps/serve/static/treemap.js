// A treemap in SVG: groups of tiles, each tile a link with as much area as it has items.

import { svg } from "./dom.js";

const GAP = 2;
const HEADER = 20; // px, the line with a group's name
const LINE = 15; // px, of a tile's text
const LETTER = 7; // px, about what a letter of a tile takes
const FEWEST_LETTERS = 5; // of a longer name; fewer say nothing

/**
 * Boxes of given areas that fill a box, as square as they go (Bruls, Huizing, van Wijk 2000).
 *
 * @param {number[]} sizes largest first, in any unit
 * @param {{x: number, y: number, width: number, height: number}} box
 */
export function squarify(sizes, box) {
  let { x, y, width, height } = box;
  const scale = (width * height) / sizes.reduce((sum, size) => sum + size, 0);
  const areas = sizes.map((size) => size * scale);
  const boxes = [];
  while (boxes.length < areas.length) {
    const isWide = width >= height;
    const side = isWide ? height : width;
    const strip = firstStrip(areas.slice(boxes.length), side);
    const depth = strip.reduce((sum, area) => sum + area, 0) / side;
    let along = 0;
    for (const area of strip) {
      const length = area / depth;
      boxes.push(
        isWide
          ? { x, y: y + along, width: depth, height: length }
          : { x: x + along, y, width: length, height: depth },
      );
      along += length;
    }
    if (isWide) [x, width] = [x + depth, width - depth];
    else [y, height] = [y + depth, height - depth];
  }
  return boxes;
}

/** As many areas as make a strip along a side squarer than it would be with one more. */
function firstStrip(areas, side) {
  const worst = (end) => {
    const total = areas.slice(0, end).reduce((sum, area) => sum + area, 0);
    return Math.max((side ** 2 * areas[0]) / total ** 2, total ** 2 / (side ** 2 * areas[end - 1]));
  };
  let end = 1;
  while (end < areas.length && worst(end + 1) <= worst(end)) end += 1;
  return areas.slice(0, end);
}

/**
 * The drawing.
 *
 * @param {{name: string, hue: string, tiles: Tile[]}[]} groups
 *   a Tile is `{lines, heard, count, purity, link}`: lines of text in it, what is said for it,
 *   and the properties of its link
 * @param {number} width in px
 * @param {number} height in px
 * @param {string} label what a screen reader calls the drawing
 */
export function treemap(groups, width, height, label) {
  const bySize = (a, b) => b.count - a.count;
  const sized = groups
    .map((group) => ({ ...group, count: group.tiles.reduce((sum, tile) => sum + tile.count, 0) }))
    .filter((group) => group.count > 0)
    .sort(bySize);
  const boxes = squarify(sized.map((group) => group.count), { x: 0, y: 0, width, height });
  const drawn = sized.map((group, place) => {
    const header = sized.length > 1 && boxes[place].height > 3 * HEADER ? HEADER : 0;
    const tiles = group.tiles.filter((tile) => tile.count > 0).sort(bySize);
    return drawGroup({ ...group, tiles }, boxes[place], header);
  });
  const picture = svg(
    "svg",
    { class: "treemap", width, height, role: "group", "aria-label": label },
    drawn.flat(),
  );
  const tiles = [...picture.querySelectorAll("a")];
  tiles.forEach((tile, place) => tile.setAttribute("tabindex", place ? -1 : 0));
  picture.addEventListener("keydown", (event) => walk(event, tiles));
  return picture;
}

function drawGroup({ name, hue, tiles }, box, header) {
  const inner = { ...box, y: box.y + header, height: box.height - header };
  const boxes = squarify(tiles.map((tile) => tile.count), inner);
  const title = svg("text", { x: 2, y: 14, class: "group-name" }, fitted(name, box.width - GAP));
  return [
    header ? svg("svg", { x: box.x, y: box.y, width: box.width, height: header }, title) : [],
    ...tiles.map((tile, place) => drawTile(tile, hue, boxes[place])),
  ].flat();
}

function drawTile(tile, hue, box) {
  const width = Math.max(box.width - GAP, 1);
  const height = Math.max(box.height - GAP, 1);
  const room = Math.floor((height - 5) / LINE);
  const lines = tile.lines.map((line) => fitted(line, width - 8)).filter(Boolean);
  // An inner svg cuts off what would run over the tile.
  return svg(
    "a",
    { ...tile.link, "aria-label": tile.heard, class: `tile ${hue}` },
    svg("title", {}, tile.heard),
    svg(
      "svg",
      { x: box.x, y: box.y, width, height },
      svg("rect", { class: "face", width, height, "fill-opacity": 0.3 + 0.7 * tile.purity }),
      lines
        .slice(0, Math.max(room, 0))
        .map((line, place) => {
          const y = 4 + LINE * (place + 0.8);
          return svg("text", { x: 5, y, class: line === tile.lines[0] && "name" }, line);
        }),
      svg("rect", { class: "ring", width, height }),
    ),
  );
}

function fitted(text, width) {
  const letters = Math.floor(width / LETTER);
  if (text.length <= letters) return text;
  return letters <= Math.min(FEWEST_LETTERS, text.length - 1) || /\d$/.test(text)
    ? "" // a part of a number would be another number
    : `${text.slice(0, letters - 1).trimEnd()}…`;
}

/** Arrow keys go to the nearest tile on that side; the whole drawing is one stop of the tab key. */
function walk(event, tiles) {
  const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const [dx, dy] = direction[event.key] ?? [0, 0];
  const here = event.target.closest("a");
  if (!here || (!dx && !dy)) return;
  event.preventDefault();
  const centre = (tile) => {
    const box = tile.getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
  };
  const [x, y] = centre(here);
  let next;
  let nearest = Infinity;
  for (const tile of tiles) {
    const [tileX, tileY] = centre(tile);
    const ahead = (tileX - x) * dx + (tileY - y) * dy;
    const aside = Math.abs((tileX - x) * dy) + Math.abs((tileY - y) * dx);
    if (ahead > 1 && ahead + 2 * aside < nearest) [next, nearest] = [tile, ahead + 2 * aside];
  }
  if (!next) return;
  here.setAttribute("tabindex", -1);
  next.setAttribute("tabindex", 0);
  next.focus();
}
