// Calls of the server. Addresses are relative to this file, so the page also works under a path.

const BASE = new URL("../", import.meta.url);

/** An error that a person can read: the server's problem+json, or no answer at all. */
export class Problem extends Error {
  constructor(title, detail) {
    super(detail);
    this.name = "Problem";
    this.title = title;
  }
}

async function call(path, { query = {}, body, signal } = {}) {
  const url = new URL(path, BASE);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== "") url.searchParams.append(name, value);
  }
  const options = body && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  let response;
  try {
    response = await fetch(url, { signal, ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server does not answer", "Is “hidvae serve” still running?");
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  throw new Problem(
    answer.title ?? "The server could not answer",
    answer.detail ?? `It answered with status ${response.status}.`,
  );
}

/** One user's list: `{items, unknown_items, history, is_fallback, version}`. */
export function recommend(user, k, filters, signal) {
  return call("recommend", { body: { ...user, k, filters }, signal });
}

/** `{total, items}` whose title or id holds a text, or that lie under a tag path. */
export function findItems({ q, under, limit, offset }, signal) {
  return call("items", { query: { q, under, limit, offset }, signal });
}

export function getItem(id, signal) {
  return call(`items/${encodeURIComponent(id)}`, { signal });
}

export function similarItems(id, k, signal) {
  return call(`items/${encodeURIComponent(id)}/similar`, { query: { k }, signal });
}

export function getTags() {
  return call("tags");
}

/** A node of the tree of semantic IDs: its children, and the most popular items below. */
export function getNode(prefix, limit, signal) {
  return call("tree", { query: { prefix: prefix.join(","), limit }, signal });
}

export function someUsers(limit) {
  return call("users", { query: { limit } });
}

/** A task of which only the latest call counts: an earlier one that still runs is cancelled. */
export function latest(task) {
  let running;
  return (...values) => {
    running?.abort();
    running = new AbortController();
    return task(running.signal, ...values);
  };
}
