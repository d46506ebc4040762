// Tuning jobs: the table, one job with its curves, and the form that starts one from pasted rows.

import { call } from "./api.js";
import { Chart } from "./charts.js";
import { columns, csv } from "./rows.js";
import { sure, tell } from "./notice.js";

const EVERY_MS = 2000;
const MANY = 1000;
const ENDED = new Set(["succeeded", "failed", "cancelled"]);
const SEARCHES = new Set(["hard", "design"]);
const LOSS = "loss";
const HYPERPARAMETERS = ["length", "steps", "batch_size", "learning_rate", "evaluate_every"];
const $ = (id) => document.getElementById(id);
const path = (job) => `/v1/fine_tuning/jobs/${encodeURIComponent(job)}`;
let charts = {};
let shown = "";
let timer = null;

export function start() {
  const form = $("job-form");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    create(form).catch((error) => tell(error.told ?? String(error)));
  });
  form.rows.addEventListener("input", () => propose(form));
  form.method.addEventListener("change", () => heed(form));
  const drop = $("rows-drop");
  drop.addEventListener("dragover", (event) => event.preventDefault());
  drop.addEventListener("drop", async (event) => {
    event.preventDefault();
    form.rows.value = await event.dataTransfer.files[0].text();
    propose(form);
  });
  $("job-detail").addEventListener("click", (event) => {
    if (event.target.dataset.act === "cancel") cancel().catch((error) => tell(error.told ?? String(error)));
  });
}

export function enter(name) {
  if (name !== shown) {
    charts = {};
    for (const box of document.querySelectorAll("#job-curves .chart")) box.replaceChildren();
    $("job-detail").replaceChildren();
  }
  shown = name;
  $("job-curves").hidden = $("job-events").hidden = !name;
  look();
}

export function leave() {
  clearTimeout(timer);
}

async function look() {
  clearTimeout(timer);
  timer = setTimeout(look, EVERY_MS);
  if (document.hidden) return;
  htmx.trigger($("jobs-table"), "refresh");
  const status = document.querySelector("#job-detail article")?.dataset.status;
  if (!shown || ENDED.has(status)) return;
  htmx.ajax("GET", `/page/jobs/${encodeURIComponent(shown)}`, { target: "#job-detail", source: "#job-detail" });
  try {
    history(await (await call("GET", `${path(shown)}/events?limit=${MANY}`)).json());
  } catch (error) {
    tell(error.told ?? String(error));
  }
}

// Events come newest first; those with figures are the points of the curves.
function history({ data }) {
  $("job-events").replaceChildren(
    ...data.map((event) => {
      const item = document.createElement("li");
      const time = document.createElement("time");
      time.textContent = new Date(event.created_at * 1000).toLocaleTimeString();
      item.append(time, event.message);
      if (event.level !== "info") item.className = "bad";
      return item;
    }),
  );
  const points = data.filter((event) => event.type === "metrics" && Number.isFinite(event.data.step)).reverse();
  const names = [...new Set(points.flatMap(({ data: figures }) => Object.keys(figures)))].filter((name) => name !== "step");
  draw("loss", points, names.filter((name) => name.includes(LOSS)));
  draw("metric", points, names.filter((name) => !name.includes(LOSS)));
}

function draw(which, points, names) {
  const numbers = names.filter((name) => points.some(({ data }) => typeof data[name] === "number"));
  if (!numbers.length) return;
  if (charts[which]?.names.join() !== numbers.join()) {
    $(`chart-${which}`).replaceChildren();
    charts[which] = new Chart($(`chart-${which}`), numbers, { time: false });
  }
  charts[which].set([points.map(({ data }) => data.step), ...numbers.map((name) => points.map(({ data }) => data[name] ?? null))]);
}

async function cancel() {
  if (!(await sure("Cancel this job? What it has learnt is gone."))) return;
  await call("POST", `${path(shown)}/cancel`);
  look();
}

// The last column is what is mostly learnt; the others make the template, until somebody writes another.
function propose(form) {
  const found = columns(form.rows.value);
  if (found.length < 2) return;
  const target = found.at(-1);
  const heading = target[0].toUpperCase() + target.slice(1);
  if (!form.target.value || form.target.dataset.proposed) {
    form.target.value = target;
    form.target.dataset.proposed = "yes";
  }
  if (!form.template.value || form.template.dataset.proposed) {
    form.template.value = `${found.slice(0, -1).map((name) => `{${name}}`).join("\n")}\n${heading}:`;
    form.template.dataset.proposed = "yes";
  }
}

function heed(form) {
  const searches = SEARCHES.has(form.method.value);
  for (const label of form.querySelectorAll(".learnt")) label.hidden = searches;
}

async function create(form) {
  tell("");
  const rows = form.rows.value.trim();
  const upload = new FormData();
  upload.set("purpose", "fine-tune");
  upload.set("file", new File([rows + "\n"], csv(rows) ? "rows.csv" : "rows.jsonl"));
  const file = await (await call("POST", "/v1/files", { body: upload })).json();
  const type = form.method.value;
  const numbers = SEARCHES.has(type) ? [] : HYPERPARAMETERS.filter((name) => form[name].value);
  const method = {
    template: form.template.value,
    target: form.target.value,
    hyperparameters: Object.fromEntries(numbers.map((name) => [name, Number(form[name].value)])),
  };
  const job = await call("POST", "/v1/fine_tuning/jobs", {
    json: {
      model: "base",
      suffix: form.suffix.value,
      training_file: file.id,
      method: { type, [type]: method },
      ...(form.seed.value && { seed: Number(form.seed.value) }),
    },
  });
  location.hash = `#jobs/${(await job.json()).id}`;
}
