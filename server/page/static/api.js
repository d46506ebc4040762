// Calls of the server's own API, with the key of this tab. Knows HTTP and the one shape of errors; no views.

const KEY = "softprompt.key";

export const key = () => sessionStorage.getItem(KEY) ?? "";

export function keep(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

export const headers = () => (key() ? { Authorization: `Bearer ${key()}` } : {});

export class Refused extends Error {
  constructor(status, { code = "", message = "the server could not be understood", param = null } = {}) {
    super(message);
    Object.assign(this, { status, code, param });
  }

  get told() {
    return this.status ? `${this.status} ${this.code}: ${this.message}` : this.message;
  }
}

export function refused(status, text) {
  try {
    return new Refused(status, JSON.parse(text).error);
  } catch {
    return new Refused(status);
  }
}

// The answer of a request that went well. Raises Refused, or AbortError when `signal` says so.
export async function call(method, path, { json, body, signal, type, also } = {}) {
  const sent = { ...headers(), ...also };
  if (json !== undefined) sent["Content-Type"] = "application/json";
  if (type) sent["Content-Type"] = type;
  let answer;
  try {
    answer = await fetch(path, { method, headers: sent, body: json === undefined ? body : JSON.stringify(json), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, { message: "the server does not answer" });
  }
  if (!answer.ok) {
    const fault = refused(answer.status, await answer.text());
    if (fault.status === 401) document.dispatchEvent(new Event("wants-key"));
    throw fault;
  }
  return answer;
}

// The objects of a stream's `data:` lines, one by one. Raises Refused for an error among them.
export async function* events(answer) {
  for await (const block of blocks(answer.body)) {
    if (!block.startsWith("data:")) continue;
    const event = JSON.parse(block.slice(5));
    if (event.error) throw new Refused(answer.status, event.error);
    yield event;
  }
}

async function* blocks(body) {
  let rest = "";
  try {
    for await (const chunk of body.pipeThrough(new TextDecoderStream())) {
      const whole = (rest + chunk).split("\n\n");
      rest = whole.pop();
      yield* whole;
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, { message: "the server does not answer any more" });
  }
}
