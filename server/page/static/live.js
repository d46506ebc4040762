// What the server is doing now, read from its own metrics once a second while somebody looks.

import { call } from "./api.js";
import { Chart } from "./charts.js";
import { tell } from "./notice.js";
import { grown, parse, quantile, sum } from "./prometheus.js";

const EVERY_MS = 1000;
const KEPT = 300;
const WINDOW = 10;
const P = "softprompt_";
const $ = (id) => document.getElementById(id);
const CHARTS = { load: ["running", "waiting"], rate: ["generated", "text read", "found in memory"], first: ["median", "95 %"], between: ["median", "95 %"] };
let scrapes = [];
let lines = {};
let charts = null;
let timer = null;

export function start() {}

export function enter() {
  charts ??= Object.fromEntries(Object.entries(CHARTS).map(([name, curves]) => [name, new Chart($(`chart-${name}`), curves, { time: true })]));
  scrapes = [];
  lines = Object.fromEntries(Object.entries(CHARTS).map(([name, curves]) => [name, [[], ...curves.map(() => [])]]));
  look();
}

export function leave() {
  clearTimeout(timer);
  timer = null;
}

async function look() {
  clearTimeout(timer);
  timer = setTimeout(look, EVERY_MS);
  const mine = timer;
  if (document.hidden) return;
  try {
    const scrape = parse(await (await call("GET", "/metrics")).text());
    tell("");
    if (mine === timer || timer) take(scrape, Date.now() / 1000);
  } catch (error) {
    tell(error.told ?? String(error));
  }
}

function take(scrape, at) {
  scrapes = [...scrapes, { scrape, at }].slice(-WINDOW - 1);
  const oldest = scrapes[0];
  const last = scrapes.at(-2) ?? scrapes[0];
  const seconds = at - last.at || 1;
  const rate = (name) => (sum(scrape, name) - sum(last.scrape, name)) / seconds;
  const ms = (q, name) => {
    const found = quantile(q, grown(oldest.scrape, scrape, `${P}${name}_seconds`));
    return found === null ? null : found * 1000;
  };
  const points = {
    load: [sum(scrape, `${P}num_requests_running`), sum(scrape, `${P}num_requests_waiting`)],
    rate: [rate(`${P}generation_tokens_total`), rate(`${P}prompt_tokens_total`) - rate(`${P}cached_tokens_total`), rate(`${P}cached_tokens_total`)],
    first: [ms(0.5, "time_to_first_token"), ms(0.95, "time_to_first_token")],
    between: [ms(0.5, "time_per_output_token"), ms(0.95, "time_per_output_token")],
  };
  for (const [name, values] of Object.entries(points)) {
    lines[name] = lines[name].map((line, place) => [...line, place ? values[place - 1] : at].slice(-KEPT));
    charts[name].set(lines[name]);
  }
  tiles(scrape, points);
}

function tiles(scrape, points) {
  const whole = (number) => (number == null ? "–" : number.toFixed(0));
  const mib = (cache) => `${(sum(scrape, `${P}cache_bytes`, { cache }) / 2 ** 20).toFixed(1)} MiB`;
  const shown = {
    running: `${whole(points.load[0])} of ${whole(sum(scrape, `${P}num_slots`))}`,
    waiting: whole(points.load[1]),
    "tokens a second": whole(points.rate[0]),
    "to the first token, median": points.first[0] === null ? "–" : `${whole(points.first[0])} ms`,
    "soft prompts in memory": `${whole(sum(scrape, `${P}resident_prompts`))}, ${mib("prompts")}`,
    "keys and values": mib("kv"),
    "answers so far": whole(sum(scrape, `${P}request_success_total`) + sum(scrape, `${P}request_classified_total`)),
    "questions that failed": whole(sum(scrape, `${P}request_failed_total`)),
  };
  $("tiles").replaceChildren(
    ...Object.entries(shown).map(([name, value]) => {
      const tile = document.createElement("div");
      const term = document.createElement("dt");
      const said = document.createElement("dd");
      term.textContent = name;
      said.textContent = value;
      tile.append(term, said);
      return tile;
    }),
  );
}
