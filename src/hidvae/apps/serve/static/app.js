// The page: what the address says is shown; every part draws what changed for it.

import { learnTitles, tagTree } from "./catalogue.js";
import { count } from "./dom.js";
import { renderHistory } from "./history.js";
import { renderItem, startItem } from "./item.js";
import { fillLevels, renderFilters, startFilters } from "./filters.js";
import { renderRecommendations } from "./recommendations.js";
import { startSearch } from "./search.js";
import { address, listen, state } from "./state.js";
import { renderTree, startTree } from "./tree.js";

const FILTERS = ["under", "notUnder", "without", "k", "diversity", "mostPerTag", "tagLevel"];
const PLACE = ["view", "by", "prefix", "path"];

function render(shown, before) {
  const isOther = (field) => !before || String(shown[field]) !== String(before[field]);
  if (isOther("item")) renderItem(shown);
  if (isOther("view")) showView(shown.view);
  for (const link of document.querySelectorAll("[data-view]")) {
    link.href = address({ view: link.dataset.view, item: "" });
  }
  if (["history", ...FILTERS].some(isOther)) {
    tagTree().then(showSize, () => {}); // the list tells what is wrong
    learnTitles([...shown.history, ...shown.without]).then(() => {
      renderHistory(state); // as it is by then
      renderFilters(state);
    });
    renderRecommendations(shown);
  }
  if (shown.view === "tree" && PLACE.some(isOther)) renderTree(shown);
}

function showSize(root) {
  document.getElementById("size").textContent = count(root.count, "item");
  fillLevels(root);
}

/** Show one of the two views; focus that was in the other goes to the top of this one. */
function showView(view) {
  const wasInside = document.activeElement.closest("main section");
  for (const link of document.querySelectorAll("[data-view]")) {
    const isShown = link.dataset.view === view;
    document.getElementById(link.dataset.view).hidden = !isShown;
    if (isShown) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (wasInside) focusTop(view);
}

function focusTop(view) {
  document.querySelector(`#${view} h2`).focus();
}

document.getElementById("skip").addEventListener("click", () => focusTop(state.view));
startSearch();
startFilters();
startTree();
startItem();
listen(render);
render(state);
