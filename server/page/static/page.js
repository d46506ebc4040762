// The page's entry: which view is shown, the key, the colours, and what went wrong. Views look after themselves.

import { headers, keep, key, call, refused } from "./api.js";
import * as jobs from "./jobs.js";
import * as live from "./live.js";
import * as play from "./play.js";
import * as tasks from "./tasks.js";
import { tell } from "./notice.js";

const VIEWS = { tasks, play, live, jobs };
const THEMES = { auto: "as the system", light: "light", dark: "dark" };
const $ = (id) => document.getElementById(id);
let shown = null;

// `#tasks/intent` is the view `tasks` with the name `intent`.
function route() {
  const [view, ...name] = location.hash.slice(1).split("/");
  const next = Object.hasOwn(VIEWS, view) ? view : "tasks";
  if (shown && shown !== next) VIEWS[shown].leave?.();
  shown = next;
  tell("");
  for (const view of Object.keys(VIEWS)) $(`view-${view}`).hidden = view !== next;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${next}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${$(`${next}-title`).textContent} · softprompt`;
  VIEWS[next].enter(named(name.join("/")));
}

function named(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function paint(theme) {
  const chosen = Object.hasOwn(THEMES, theme) ? theme : "auto";
  if (chosen === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  $("theme").setAttribute("aria-label", `Colours: ${THEMES[chosen]}`);
  $("theme").title = `Colours: ${THEMES[chosen]}`;
  localStorage.setItem("softprompt.theme", chosen);
  document.dispatchEvent(new Event("repaint"));
}

function turn() {
  const names = Object.keys(THEMES);
  paint(names[(names.indexOf(localStorage.getItem("softprompt.theme")) + 1) % names.length]);
}

function askForKey() {
  const dialog = $("key-dialog");
  if (dialog.open) return;
  $("key-input").value = key();
  dialog.returnValue = "";
  dialog.showModal();
}

function keyGiven() {
  const answer = $("key-dialog").returnValue;
  if (answer === "save") keep($("key-input").value.trim());
  else if (answer === "forget") keep("");
  else return;
  location.reload();
}

async function introduce() {
  try {
    const info = await (await call("GET", "/info")).json();
    $("served").textContent = `${info.model}, ${info.dtype} on ${info.device}, ${info.version}`;
  } catch (error) {
    if (error.status !== 401) tell(error.told);
  }
}

// htmx fetches fragments: with our key, and what it may not put into the page is told instead.
function guardFragments() {
  document.addEventListener("htmx:config:request", ({ detail }) => Object.assign(detail.ctx.request.headers, headers()));
  document.addEventListener("htmx:response:error", ({ detail }) => {
    detail.ctx.swap = "none";
    if (detail.ctx.response.status === 401) askForKey();
    if (detail.ctx.response.status === 403) $("start").hidden = true; // who may not see jobs may not start one
    if (detail.ctx.response.status !== 401) tell(refused(detail.ctx.response.status, detail.ctx.text).told);
  });
  document.addEventListener("htmx:error", () => tell("the server does not answer"));
}

guardFragments();
paint(localStorage.getItem("softprompt.theme"));
$("theme").addEventListener("click", turn);
$("key-button").addEventListener("click", askForKey);
$("key-dialog").addEventListener("close", keyGiven);
document.addEventListener("wants-key", askForKey);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  $("main").focus();
});
window.addEventListener("hashchange", route);
for (const view of Object.values(VIEWS)) view.start();
introduce();
route();
