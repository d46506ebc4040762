// The playground: one input, one or two tasks or versions of one, answered side by side as their tokens come.

import { call, events } from "./api.js";
import { Answer } from "./answer.js";
import { tell } from "./notice.js";

const $ = (id) => document.getElementById(id);
const SIDES = ["a", "b"];
const NUMBERS = ["max_new_tokens", "temperature", "top_p", "top_k", "seed", "repetition_penalty"];
const TOP = 5;
const form = () => $("play-form");
const choice = (side) => document.querySelector(`.choice[data-side="${side}"]`);
const chosen = (side) => choice(side).querySelector(".chosen");
const looked = { a: null, b: null }; // what the server is being asked of each side's task
let running = null;
let arrived = false; // somebody came here to try a task: the first box is theirs

export function start() {
  form().addEventListener("submit", (event) => {
    event.preventDefault();
    ask(generate);
  });
  form().classify.addEventListener("click", () => ask(classify));
  form().stop.addEventListener("click", () => running?.abort());
  form().addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.ctrlKey) form().requestSubmit(form().run);
  });
  for (const side of SIDES) {
    const box = form()[`task-${side}`];
    box.addEventListener("input", () => suggest(box.value));
    box.addEventListener("change", () => choose(side));
    choice(side).addEventListener("htmx:after:swap", fields);
    choice(side).querySelector(".about").addEventListener("change", (event) => choose(side, event.target.value));
  }
}

// A task that was named elsewhere, or the one that stands here, or the first that there is.
export async function enter(name) {
  const box = form()["task-a"];
  if (name) box.value = name;
  arrived = Boolean(name);
  const names = await suggest("");
  if (!box.value) box.value = names[0] ?? "";
  if (name || !chosen("a")) choose("a");
}

export function leave() {
  running?.abort();
}

async function suggest(prefix) {
  const query = new URLSearchParams({ limit: 20, search: prefix });
  try {
    const { data } = await (await call("GET", `/tasks?${query}`)).json();
    const names = data.map((task) => task.id);
    $("task-names").replaceChildren(...["base", ...names].map((id) => new Option(id, id)));
    return names;
  } catch {
    $("task-names").replaceChildren(); // what was typed may be no beginning of an id: it is told when it is chosen
    return [];
  }
}

const entered = (side) => form()[`task-${side}`].value.trim() || (side === "a" ? "base" : "");

// The server says which versions a task has, and which fields the chosen one wants. The last question counts.
function choose(side, version = "") {
  const about = choice(side).querySelector(".about");
  const task = entered(side);
  tell("");
  about.replaceChildren();
  fields();
  if (!task) return;
  const query = new URLSearchParams({ task, ...(version && { version }) });
  const asked = (looked[side] = htmx.ajax("GET", `/page/pane?${query}`, { target: about, source: about }).finally(() => {
    if (looked[side] === asked) looked[side] = null;
    ready();
  }));
  ready();
}

// A text box for every field that either side wants, and one for both where each wants a single one; what was typed stays,
// also while a task is looked for or was not found.
function fields() {
  const sides = SIDES.map(chosen).filter(Boolean);
  ready();
  if (!sides.length) return;
  const typed = typedInputs();
  const kept = Object.values(typed);
  $("inputs").replaceChildren(
    ...boxes(sides).map(({ name, fields }, place, all) => {
      const label = document.createElement("label");
      const box = document.createElement("textarea");
      box.dataset.fields = JSON.stringify(fields);
      box.rows = 3;
      box.value = fields.map((field) => typed[field]).find(Boolean) ?? (all.length === 1 ? (kept[place] ?? "") : "");
      label.append(name, box);

      return label;
    }),
  );
  form().classify.hidden = !sides.some((side) => side.dataset.labels);
  // Not from under the hands of who has begun to type elsewhere.
  if (arrived && !form().contains(document.activeElement)) document.querySelector("#inputs textarea").focus();
  arrived = false;
}

// Only a task that is there can be asked, and one question at a time.
function ready() {
  const there = chosen("a") || looked.a;
  form().run.disabled = form().classify.disabled = Boolean(running) || !there;
  form().stop.disabled = !running;
}

function boxes(sides) {
  const wanted = sides.map((side) => JSON.parse(side.dataset.fields));
  const names = [...new Set(wanted.flat())];
  if (names.length > 1 && wanted.every((fields) => fields.length === 1)) return [{ name: `For both: ${names.join(", ")}`, fields: names }];
  return names.map((name) => ({ name, fields: [name] }));
}

function typedInputs() {
  const found = {};
  for (const box of document.querySelectorAll("#inputs textarea")) {
    for (const field of JSON.parse(box.dataset.fields)) found[field] = box.value;
  }
  return found;
}

function body(side) {
  const pane = chosen(side);
  const typed = typedInputs();
  const wanted = JSON.parse(pane.dataset.fields);
  const version = pane.querySelector("select")?.value;
  const bare = pane.dataset.task === "base";
  return {
    task: pane.dataset.task,
    inputs: bare ? typed.input : Object.fromEntries(wanted.map((name) => [name, typed[name]])),
    ...(version && { version: Number(version) }),
  };
}

function parameters() {
  const given = new FormData(form());
  const found = NUMBERS.filter((name) => given.get(name)).map((name) => [name, Number(given.get(name))]);
  return { ...Object.fromEntries(found), logprobs: TOP };
}

async function ask(how) {
  if (running) return;
  running = new AbortController();
  ready();
  await Promise.all(SIDES.map((side) => looked[side]));
  if (SIDES.every((side) => (chosen(side)?.dataset.task ?? "") === entered(side))) {
    tell("");
    await Promise.all(SIDES.map((side) => answered(side, how)));
  }
  running = null;
  ready();
}

async function answered(side, how) {
  const answer = new Answer(document.querySelector(`.answer[data-side="${side}"]`));
  if (!chosen(side)) return answer.hide();
  const asked = body(side);
  answer.begin(asked);
  try {
    if (how === classify && !chosen(side).dataset.labels) throw new Error("this task has no labels to choose among");
    await how(asked, answer, running.signal);
  } catch (error) {
    answer.fail(error.name === "AbortError" ? "stopped" : (error.told ?? error.message));
  } finally {
    answer.end();
  }
}

async function generate(asked, answer, signal) {
  const sent = call("POST", "/render", { json: asked, signal }).then((found) => found.json());
  sent.then((found) => answer.sent(found)).catch(() => {}); // the same refusal comes with the answer
  const started = performance.now();
  const stream = await call("POST", "/generate_stream", { json: { ...asked, parameters: parameters() }, signal });
  for await (const event of events(stream)) {
    answer.token(event.token, performance.now() - started);
    if (event.details) answer.details(event.details, performance.now() - started);
  }
  if (!answer.whole) throw new Error("the answer was cut off");
}

async function classify(asked, answer, signal) {
  const found = await (await call("POST", "/classify", { json: asked, signal })).json();
  answer.scores(found.scores);
}
