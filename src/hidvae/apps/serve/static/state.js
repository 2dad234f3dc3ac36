// What is shown, kept in the address after the #: a view can be shared, and "back" goes back.

const LISTS = { history: "h", under: "under", notUnder: "not", without: "without", prefix: "code" };
const NUMBERS = { k: "k", diversity: "diversity", mostPerTag: "per-tag", tagLevel: "level" };
const TEXTS = { view: "view", by: "by", path: "tag", item: "item" };
const CHOICES = { view: ["recommend", "tree"], by: ["code", "tag"] };

const START = {
  view: "recommend",
  history: [],
  under: [],
  notUnder: [],
  without: [],
  k: 10,
  diversity: 0,
  mostPerTag: 0,
  tagLevel: 0,
  by: "code", // what the tree is walked by
  prefix: [], // where in the tree of codes
  path: "", // where in the tree of tags
  item: "", // whose details are open
};

const listeners = [];

export let state = read(location.hash);

function read(hash) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const found = { ...START };
  for (const [field, name] of Object.entries(LISTS)) found[field] = given.getAll(name);
  for (const [field, name] of Object.entries(TEXTS)) found[field] = given.get(name) ?? START[field];
  for (const [field, name] of Object.entries(NUMBERS)) {
    const number = Number(given.get(name));
    found[field] = given.has(name) && Number.isFinite(number) ? number : START[field];
  }
  for (const [field, choices] of Object.entries(CHOICES)) {
    if (!choices.includes(found[field])) found[field] = START[field];
  }
  return found;
}

/** The address of this state with some fields changed. */
export function address(changes) {
  const shown = { ...state, ...changes };
  const query = new URLSearchParams();
  for (const [field, name] of Object.entries({ ...TEXTS, ...NUMBERS })) {
    if (shown[field] !== START[field]) query.append(name, shown[field]);
  }
  for (const [field, name] of Object.entries(LISTS)) {
    for (const value of shown[field]) query.append(name, value);
  }
  return `#${query}`;
}

/** Change fields; a change that changes nothing does nothing. */
export function change(changes) {
  const next = address(changes);
  if (next === address({})) return;
  history.pushState(null, "", next);
  follow();
}

/** Call a function with the state and the one before, now and after every change. */
export function listen(listener) {
  listeners.push(listener);
}

function follow() {
  const before = state;
  state = read(location.hash);
  for (const listener of listeners) listener(state, before);
}

window.addEventListener("popstate", follow);

/** Properties of a link that makes changes; its address can be copied or opened in a new tab. */
export function linkTo(changes) {
  const onclick = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    change(changes); // of the state as it is then, which the address may lag behind
  };
  return { href: address(changes), onclick };
}

export function addToHistory(id) {
  change({ history: [...state.history.filter((other) => other !== id), id] });
}

export function removeFromHistory(id) {
  change({ history: state.history.filter((other) => other !== id) });
}
