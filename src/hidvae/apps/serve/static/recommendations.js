// The list: every item with what its ID means, how sure each part is, and which history it follows.

import { latest, recommend } from "./api.js";
import { plainCode, remember, tagTree } from "./catalogue.js";
import { announce, count, el, percent, replace, showProblem } from "./dom.js";
import { openButton } from "./item-title.js";
import { filtersOf, tagButtons } from "./filters.js";
import { addButton } from "./search.js";
import { change, linkTo, state } from "./state.js";

const region = document.getElementById("recommendations");

export const renderRecommendations = latest(async (signal, shown) => {
  region.setAttribute("aria-busy", "true");
  try {
    const root = await tagTree();
    const result = await recommend({ history: shown.history }, shown.k, filtersOf(shown), signal);
    remember(result.items);
    if (signal.aborted) return;
    region.removeAttribute("aria-busy");
    show(root, result);
  } catch (error) {
    showProblem(region, error, () => renderRecommendations(state));
  }
});

function show(root, result) {
  const { items, is_fallback: isFallback, unknown_items: unknown } = result;
  announce(isFallback ? "The most popular items" : count(items.length, "recommendation"));
  replace(
    region,
    isFallback
      ? el(
          "p",
          { class: "hint" },
          "Nothing to go by yet, so these are the most popular items. ",
          el("b", {}, "Add one you like"),
          ", or try a sample user: recommendations follow at once.",
        )
      : null,
    unknown.length
      ? el("p", { class: "hint" }, `Not in the catalogue, so left aside: ${unknown.join(", ")}`)
      : null,
    items.length
      ? el("ol", { class: "cards" }, items.map((item) => card(root, item, isFallback)))
      : el("p", { class: "hint" }, "No item passes these filters; take one of them back."),
  );
}

function card(root, item, isFallback) {
  return el(
    "li",
    { class: "card", "data-item": item.item_id },
    el(
      "div",
      { class: "head" },
      el("h3", {}, openButton(item.item_id, item.title)),
      isFallback
        ? null
        : el("p", { class: "prob" }, `${percent(item.prob)} likely`, graphShare(item)),
      el(
        "div",
        { class: "row" },
        addButton(item),
        el(
          "button",
          {
            type: "button",
            "data-key": `hide ${item.item_id}`,
            "aria-label": `Never show: ${item.title}`,
            onclick: () => change({ without: [...state.without, item.item_id] }),
          },
          "Hide",
        ),
      ),
    ),
    levels(root, item, isFallback),
    item.because.length ? because(item) : el("p", { class: "reason" }, item.reason),
  );
}

/** What item graph and likeness add to the log-probability, in nats. */
function graphShare(item) {
  const added = item.score_parts.item_graph + item.score_parts.likeness;
  if (Math.abs(added) < 0.05) return null;
  return el("small", {}, `graph score ${added > 0 ? "+" : "−"}${Math.abs(added).toFixed(1)}`);
}

/** One column per level: the tag and how sure, the code and how probable. */
function levels(root, item, isFallback) {
  const buttons = tagButtons(root, item.tag_path);
  return el(
    "ol",
    { class: "levels", "aria-label": "Levels of the semantic ID, coarse to fine" },
    item.codes.map((code, level) =>
      el(
        "li",
        {},
        buttons[level] ?? el("span", { class: "tag none" }, "no tag"),
        level < buttons.length ? bar("sure", item.tag_confidences[level]) : null,
        el(
          "a",
          {
            class: "code",
            "data-key": `code ${item.item_id} ${level}`,
            ...linkTo({ view: "tree", by: "code", prefix: item.codes.slice(0, level + 1) }),
          },
          plainCode(code),
        ),
        isFallback ? null : bar("probable", item.code_probs[level]),
      ),
    ),
  );
}

function bar(word, share) {
  return el(
    "span",
    { class: `bar ${word}` },
    el("span", { class: "track", "aria-hidden": "true" }, el("span", { class: "fill", share })),
    el("span", { class: "number" }, percent(share), el("span", { class: "unseen" }, ` ${word}`)),
  );
}

function because(item) {
  return el(
    "div",
    { class: "because" },
    el("p", {}, "Lifted by"),
    el(
      "ul",
      {},
      item.because.map((cause) =>
        el(
          "li",
          {},
          el("span", { class: "number" }, percent(cause.share)),
          el("b", {}, cause.title),
          el(
            "span",
            { class: "kinds" },
            kinds(cause.parts),
            shared(cause.shared_levels, item.codes.length),
          ),
        ),
      ),
    ),
  );
}

const KINDS = {
  likeness: "learned likeness",
  co_occurrence: "taken together",
  content: "content",
  words: "shared words",
};

/** By what a history item lifts an item, largest share first. */
function kinds(parts) {
  return Object.entries(parts)
    .filter(([, share]) => share >= 0.005)
    .sort(([, one], [, other]) => other - one)
    .map(([kind, share]) => `${KINDS[kind]} ${percent(share)}`)
    .join(", ");
}

/** How many codes two items have in common, as filled and empty squares. */
export function shared(levelsInCommon, numLevels) {
  return el(
    "span",
    { class: "shared" },
    Array.from({ length: numLevels }, (_, level) =>
      el("i", { class: level < levelsInCommon ? "same" : "other", "aria-hidden": "true" }),
    ),
    el("span", { class: "unseen" }, `${levelsInCommon} of ${numLevels} codes in common: `),
  );
}
