// The table of tasks, one task, and uploads.

import { call } from "./api.js";
import { sure, tell } from "./notice.js";

const $ = (id) => document.getElementById(id);
const path = (task) => `/tasks/${encodeURIComponent(task)}`;

export function start() {
  $("filter").addEventListener("submit", (event) => event.preventDefault());
  $("task-detail").addEventListener("click", act);
  $("task-detail").addEventListener("htmx:after:swap", (event) => {
    if (event.target === $("task-detail")) event.target.querySelector("h3")?.focus();
  });
  $("upload-form").addEventListener("submit", (event) => {
    event.preventDefault();
    upload([...$("upload-files").files]);
  });
  const drop = $("drop");
  for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, (event) => hover(event, true));
  drop.addEventListener("dragleave", (event) => hover(event, false));
  drop.addEventListener("drop", (event) => {
    hover(event, false);
    upload([...event.dataTransfer.files]);
  });
}

export function enter(name) {
  $("task-list").hidden = Boolean(name);
  $("task-detail").hidden = !name;
  $("task-detail").replaceChildren();
  if (name) show(name);
  else htmx.trigger($("filter"), "refresh");
}

function show(name) {
  htmx.ajax("GET", `/page${path(name)}`, { target: "#task-detail", source: "#task-detail" });
}

function hover(event, over) {
  event.preventDefault();
  $("drop").classList.toggle("over", over);
}

async function act(event) {
  const button = event.target.closest("button[data-act]");
  if (!button) return;
  const task = button.closest("article").dataset.task;
  const version = Number(button.dataset.version);
  tell("");
  try {
    await { download, rollback, delete: remove }[button.dataset.act](task, version);
  } catch (error) {
    tell(error.told ?? String(error));
  }
}

async function download(task, version) {
  const answer = await call("GET", `${path(task)}/versions/${version}/prompt`);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = `${task}.v${version}.safetensors`;
  link.click();
  URL.revokeObjectURL(link.href);
}

async function rollback(task, version) {
  if (!(await sure(`Make a new version of ${task} with the content of version ${version}?`))) return;
  await call("POST", `${path(task)}/rollback`, { json: { version } });
  show(task);
}

async function remove(task) {
  if (!(await sure(`Delete ${task}? Its versions stay in the store: softprompt rollback brings it back.`))) return;
  await call("DELETE", path(task));
  location.hash = "#tasks";
}

// One after the other; each with its own line, which says why where it was refused.
async function upload(files) {
  const form = $("upload-form");
  if (!files.length) return line("bad", "no file was chosen");
  const given = new FormData(form);
  const named = files.length === 1 ? given.get("task").trim() : "";
  for (const file of files) {
    const task = named || file.name.replace(/(\.v\d+)?\.(safetensors|json)$/, "");
    const told = line("", `${file.name}: …`);
    try {
      told.replaceChildren(...(await publish(task, file, given)));
    } catch (error) {
      told.className = "bad";
      told.textContent = `${file.name} was refused: ${error.told ?? error}`;
    }
  }
  htmx.trigger($("filter"), "refresh");
}

async function publish(task, file, given) {
  const json = file.name.endsWith(".json");
  const query = new URLSearchParams();
  for (const name of ["template", "labels", "description", "kind"]) {
    if (!json && given.get(name)) query.set(name, given.get(name));
  }
  const answer = await call("PUT", `${path(task)}?${query}`.replace(/\?$/, ""), {
    body: file,
    type: json ? "application/json" : "application/octet-stream",
    also: given.get("create_only") ? { "If-None-Match": "*" } : {},
  });
  const { id, version, kind, length } = await answer.json();
  const link = document.createElement("a");
  link.href = `#tasks/${id}`;
  link.textContent = id;
  const change = answer.status === 201 ? "is now" : "already was";
  return [`${file.name}: `, link, ` ${change} version ${version}, ${kind}${length ? ` of ${length} pseudo-tokens` : ""}`];
}

function line(kind, text) {
  const item = document.createElement("li");
  item.className = kind;
  item.textContent = text;
  $("uploaded").prepend(item);
  return item;
}
