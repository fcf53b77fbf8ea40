// Which view is shown: the part of the address after # says it, so any file server and any prefix do.

import { forget, get, known, post } from "./api.js";
import { showCompare } from "./compare.js";
import { button, fill, h, notice, say, set } from "./dom.js";
import { showLogin } from "./login.js";
import { showRun } from "./run.js";
import { showRuns } from "./runs.js";
import { showSubmit } from "./submit.js";
import { showSweep, showSweeps } from "./sweeps.js";

const ROUTES = [
  { path: /^\/?$/, view: showRuns, page: "runs" },
  { path: /^\/runs$/, view: showRuns, page: "runs" },
  { path: /^\/runs\/([^/]+)$/, view: showRun, page: "runs" },
  { path: /^\/compare(?:\/([^/]*)(?:\/([^/]*))?)?$/, view: showCompare, page: "compare" },
  { path: /^\/sweeps$/, view: showSweeps, page: "sweeps" },
  { path: /^\/sweeps\/([^/]+)$/, view: showSweep, page: "sweeps" },
  { path: /^\/submit$/, view: showSubmit, page: "submit" },
];
const PAGES = { runs: "Runs", sweeps: "Sweeps", compare: "Compare", submit: "Submit" };

const main = document.getElementById("main");
let leave = [];
let turn = 0;

function parse() {
  const text = location.hash.replace(/^#/, "");
  const cut = text.indexOf("?");
  const path = cut < 0 ? text : text.slice(0, cut);
  return { path, query: new URLSearchParams(cut < 0 ? "" : text.slice(cut + 1)) };
}

// What a view is given: where to draw, what the address says, and how to change it.
function context(container, path, query, parts) {
  const mine = turn;
  return {
    container,
    query,
    parts,
    get current() {
      return mine === turn;
    },
    // Calls `undo` when the view is left, or now if it was left while something loaded.
    onLeave(undo) {
      if (mine === turn) leave.push(undo);
      else undo();
    },
    go(hash) {
      location.hash = hash;
    },
    // Writes the view's state into the address without drawing the view again.
    replace(next) {
      if (mine !== turn) return;
      const text = next.toString();
      history.replaceState(null, "", `#${path}${text ? `?${text}` : ""}`);
    },
    title(text) {
      if (mine === turn) document.title = text ? `${text} - discover` : "discover";
    },
    announce,
  };
}

export function announce(text) {
  say(document.getElementById("announce"), text);
}

function decoded(text) {
  if (text === undefined) return undefined;
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

async function route(first = false) {
  const { path, query } = parse();
  if (path === "main") return; // The skip link.
  const found = ROUTES.find((each) => each.path.test(path));
  const container = begin(found?.page);
  const mine = turn;
  if (!found) {
    fill(container, h("h1", { tabindex: "-1" }, "There is no such page"),
      h("p", null, "The address may have been cut short. ", h("a", { href: "#/runs" }, "See all runs"), "."));
  } else {
    const parts = path.match(found.path).slice(1).map(decoded);
    try {
      await found.view(context(container, path, query, parts));
    } catch (error) {
      if (mine === turn) failed(container, error);
    }
  }
  if (mine === turn && !first) container.querySelector("h1")?.focus({ preventScroll: true });
}

function begin(page) {
  turn += 1;
  for (const undo of leave.splice(0)) undo();
  for (const link of document.querySelectorAll("#pages a")) {
    set(link, "aria-current", link.dataset.page === page ? "page" : null);
  }
  const container = h("div.view", { "data-page": page ?? null });
  fill(main, container);
  setTimeout(() => container.childElementCount || fill(container, h("p.hint", null, "Loading ...")), 300);
  window.scrollTo(0, 0);
  return container;
}

function failed(container, error) {
  if (error.name === "AbortError" || error.status === 401) return;
  if (error.name !== "ApiError") console.error(error);
  const title = error.status === 404 ? "Not found" : "This did not work";
  fill(container, h("h1", { tabindex: "-1" }, title), notice("error", error.message),
    h("p", null, button("Try again", () => route()), " ", h("a", { href: "#/runs" }, "All runs")));
}

function login(message) {
  const asking = main.querySelector("[data-page=login]");
  if (asking) return;
  const container = begin("login");
  showLogin(container, message, async () => {
    forget();
    await foot();
    route();
  });
}

async function foot() {
  const element = document.getElementById("foot");
  try {
    const [version, health] = await Promise.all([get("version"), get("health")]);
    const settings = await known("settings").catch(() => ({}));
    fill(element,
      h("span", null, `discover ${version.version ?? ""}`),
      h("span", null, health.status === "ok" ? "Server and database answer" : `Health: ${health.status}`),
      h("a", { href: new URL("api/docs", document.baseURI).pathname }, "HTTP API"),
      settings.auth ? button("Log out", logout, { class: "quiet" }) : null);
  } catch (error) {
    fill(element, h("span", null, error.message));
  }
}

async function logout() {
  await post("logout").catch(() => {});
  forget();
  login("");
}

function themeButton() {
  const switcher = document.getElementById("theme");
  const draw = () => say(switcher, window.discoverTheme.now() === "dark" ? "Light mode" : "Dark mode");
  switcher.addEventListener("click", () => window.discoverTheme.toggle());
  document.addEventListener("discover:theme", draw);
  draw();
}

fill(document.getElementById("pages"), Object.entries(PAGES).map(([page, name]) =>
  h("a", { href: `#/${page}`, "data-page": page }, name)));
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
document.addEventListener("discover:login", (event) => login(event.detail));
window.addEventListener("hashchange", () => route());
themeButton();
foot();
route(true);
