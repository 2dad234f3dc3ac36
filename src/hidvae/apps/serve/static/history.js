// The history: what was added, oldest first; and where to start from nothing.

import { recommend, someUsers } from "./api.js";
import { titleOf } from "./catalogue.js";
import { announce, count, el, replace, showProblem } from "./dom.js";
import { openButton } from "./item-title.js";
import { change, removeFromHistory } from "./state.js";

const NUM_USERS = 20; // to go through
const SAMPLE_SIZE = 5; // latest items of a sample user: enough to see a taste, few enough to read
const region = document.getElementById("history");

let users = [];
let nextUser = 0;

async function startFromSample() {
  try {
    if (!users.length) ({ users } = await someUsers(NUM_USERS));
    const user = users[nextUser++ % users.length];
    const { history } = await recommend({ user_id: user.user_id }, 1, {});
    change({ history: history.slice(-SAMPLE_SIZE) });
  } catch (error) {
    showProblem(region, error, startFromSample);
  }
}

export function renderHistory(state) {
  replace(
    region,
    state.history.length ? entries(state.history) : null,
    el(
      "p",
      { class: "row" },
      el(
        "button",
        { type: "button", id: "sample", "data-key": "sample", onclick: startFromSample },
        state.history.length ? "Another sample user" : "Try a sample user",
      ),
      state.history.length
        ? el(
            "button",
            { type: "button", "data-key": "clear", onclick: () => change({ history: [] }) },
            "Clear",
          )
        : null,
    ),
  );
}

function entries(ids) {
  return el(
    "ol",
    { class: "items" },
    ids.map((id) =>
      el(
        "li",
        {},
        openButton(id, titleOf(id)),
        el(
          "button",
          {
            type: "button",
            class: "remove",
            "data-key": `remove ${id}`,
            "aria-label": `Remove from history: ${titleOf(id)}`,
            onclick: () => {
              removeFromHistory(id);
              announce(`Removed; ${count(ids.length - 1, "item")} left`);
            },
          },
          "×",
        ),
      ),
    ),
  );
}
