// One side's answer: tokens as they come, coloured by how likely they were, and afterwards what it took.

const NAMED = { " ": "␣", "\n": "⏎", "\t": "⇥" };
const named = (character) => NAMED[character] ?? `‹${character.codePointAt(0).toString(16).toUpperCase()}›`;
const visible = (text) => text.replace(/[\p{C}\p{Z}]/gu, named) || "∅";
const share = (logprob) => Math.exp(logprob);
const percent = (value) => `${(100 * value).toFixed(value > 0.0995 ? 0 : 1)} %`;

function cells(...texts) {
  const row = document.createElement("tr");
  for (const [place, text] of texts.entries()) {
    const cell = document.createElement(place ? "td" : "th");
    if (!place) cell.scope = "row";
    if (place === 1) cell.className = "number";
    cell.append(text);
    row.append(cell);
  }
  return row;
}

export class Answer {
  constructor(article) {
    this.article = article;
    this.text = article.querySelector(".text");
    this.table = article.querySelector(".tokens");
    this.spans = [];
  }

  hide() {
    this.article.hidden = true;
  }

  begin({ task, version }) {
    this.article.hidden = false;
    this.article.setAttribute("aria-busy", "true");
    this.article.querySelector("h3").textContent = version ? `${task}, version ${version}` : task;
    this.text.className = "text";
    this.text.replaceChildren();
    this.article.querySelector(".facts").replaceChildren();
    this.article.querySelector(".share").replaceChildren();
    this.article.querySelector(".share").setAttribute("aria-label", "");
    for (const part of this.article.querySelectorAll("details")) part.hidden = true;
  }

  end() {
    this.article.setAttribute("aria-busy", "false");
  }

  fail(reason) {
    const told = document.createElement("span");
    told.className = "bad";
    told.textContent = this.spans.length ? ` ${reason}` : reason;
    this.text.append(told);
  }

  token(token, took) {
    this.first ??= took;
    const span = document.createElement("span");
    span.className = token.special ? "token special" : "token";
    span.textContent = token.special ? "end" : token.text;
    if (token.logprob !== null) {
      span.style.setProperty("--p", share(token.logprob));
      span.title = percent(share(token.logprob));
    }
    this.spans.push(span);
    this.text.append(span);
  }

  get whole() {
    return Boolean(this.told);
  }

  details({ usage, logprobs, seed, finish_reason: reason, version }, took) {
    this.told = true;
    const first = `first token after ${this.first.toFixed(0)} ms, all ${usage.completion_tokens} after ${took.toFixed(0)} ms`;
    const facts = [version && `version ${version}`, `ended by ${reason}`, first, `seed ${seed}`];
    this.article.querySelector(".facts").textContent = facts.filter(Boolean).join(" · ");
    this.shares(usage);
    this.probabilities(logprobs ?? []);
  }

  // What the context was filled with, and how much of the text had been read before.
  shares({ prompt_tokens: prompt, soft_tokens: soft, cached_tokens: cached, completion_tokens: made }) {
    const parts = [
      ["soft", soft, "pseudo-tokens"],
      ["cached", cached, "of the text found in memory"],
      ["read", prompt - cached, "of the text read"],
      ["made", made, "generated"],
    ];
    const bar = this.article.querySelector(".share");
    const told = document.createElement("p");
    told.className = "hint";
    for (const [kind, count, name] of parts) {
      const part = document.createElement("i");
      part.className = kind;
      part.style.flexGrow = count;
      if (count) bar.append(part);
      const key = document.createElement("span");
      key.className = `key ${kind}`;
      told.append(key, `${count} ${name}`);
    }
    bar.setAttribute("aria-label", `Tokens: ${parts.map(([, count, name]) => `${count} ${name}`).join(", ")}`);
    this.article.querySelector(".facts").append(told);
  }

  probabilities(tokens) {
    this.table.hidden = !tokens.length;
    const others = ({ id, top }) => top.filter((other) => other.id !== id);
    const told = (other) => `${visible(other.text)} ${percent(share(other.logprob))}`;
    this.table.querySelector("tbody").replaceChildren(
      ...tokens.map((token) => cells(visible(token.text), percent(share(token.logprob)), others(token).map(told).join(", "))),
    );
    tokens.forEach((token, place) => {
      const rest = others(token).map(told);
      if (this.spans[place] && rest.length) this.spans[place].title += `; instead: ${rest.join(", ")}`;
    });
  }

  sent({ text, slots, counts }) {
    const part = this.article.querySelector(".sent");
    const rows = slots.map((slot) => `pseudo-tokens ${slot.row} to ${slot.row + slot.length - 1} at position ${slot.position}`);
    const about = [`${counts.prompt_tokens} text tokens`, `${counts.soft_tokens} pseudo-tokens`, ...rows, `context ${counts.context}`];
    part.querySelector("pre").textContent = `${text}\n\n(${about.join(", ")})`;
    part.hidden = false;
  }

  scores(scores) {
    const table = document.createElement("table");
    table.className = "scores";
    for (const { label, probability } of scores) {
      const meter = document.createElement("meter");
      meter.value = probability;
      meter.setAttribute("aria-label", label);
      table.append(cells(label, percent(probability), meter));
    }
    this.text.replaceChildren(`${scores[0].label}`);
    this.article.querySelector(".facts").replaceChildren(table);
  }
}
