// Making and replacing nodes. Text is always text, never HTML, so nothing of a catalogue can run.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element; `on…` properties are listeners, `share` is the length of a bar in [0, 1]. */
export function el(name, properties = {}, ...children) {
  return filled(document.createElement(name), properties, children);
}

/** The same for SVG. */
export function svg(name, properties = {}, ...children) {
  return filled(document.createElementNS(SVG, name), properties, children);
}

function filled(node, properties, children) {
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "share") node.style.setProperty("--share", value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/**
 * Give a region new content. Focus inside it stays on the node with the same `data-key`, or goes to
 * the heading of its section: a keyboard never loses its place.
 */
export function replace(region, ...children) {
  const hadFocus = region.contains(document.activeElement);
  const key = hadFocus ? document.activeElement.dataset.key : undefined;
  region.replaceChildren(...children.flat().filter((child) => child !== null));
  if (!hadFocus) return;
  const same = key && region.querySelector(`[data-key="${CSS.escape(key)}"]`);
  (same || region.closest("section, dialog").querySelector("h2"))?.focus();
}

/** Say something to a screen reader, once. */
export function announce(text) {
  document.getElementById("status").textContent = text;
}

/** What went wrong, in place of a region's content; a cancelled request is nothing wrong. */
export function showProblem(region, error, retry) {
  if (error.name === "AbortError") return;
  region.removeAttribute("aria-busy");
  replace(
    region,
    el(
      "div",
      { class: "problem", role: "alert" },
      el("strong", {}, error.title ?? "Something went wrong on this page"),
      el("p", {}, error.message),
      retry && el("button", { type: "button", onclick: retry, "data-key": "retry" }, "Try again"),
    ),
  );
}

/** A probability in few digits, and never 0% for what can happen. */
export function percent(share) {
  if (share > 0 && share < 0.001) return "<0.1%";
  return `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)}%`;
}

export function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}
