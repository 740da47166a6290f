// The gateway's interfaces as this page uses them. The admin key lives for this tab only.

const KEY = "reprise-admin-key";
let askForKey = async () => null;
let asking = null;
let declined = false;

export const key = () => sessionStorage.getItem(KEY);
export function forgetKey() {
  sessionStorage.removeItem(KEY);
  declined = false;
}
export const onUnauthorized = (ask) => { askForKey = ask; };

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const headers = () => (key() ? { authorization: `Bearer ${key()}` } : {});

async function refusal(response) {
  let message = `${response.status} ${response.statusText}`;
  try {
    message = (await response.json()).error.message;
  } catch { /* not in OpenAI's shape: the status must do */ }
  return new ApiError(response.status, message);
}

/** One prompt however many calls are refused at once, and none again once it was declined. */
function newKey(message) {
  if (declined) return null;
  asking ??= askForKey(message).then((given) => {
    if (given) sessionStorage.setItem(KEY, given);
    else declined = true;
    return given;
  }).finally(() => { asking = null; });
  return asking;
}

async function send(path, init = {}) {
  for (;;) {
    const sent = key();
    const response = await fetch(path, { ...init, headers: { ...init.headers, ...headers() } });
    if (response.ok) return response;
    const error = await refusal(response);
    if (response.status !== 401) throw error;
    if (key() !== sent) continue;
    if (!(await newKey(error.message))) throw error;
  }
}

export async function call(method, path, body) {
  const init = { method };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { "content-type": "application/json" };
  }
  const response = await send(path, init);
  return response.status === 204 ? null : response.json();
}

export const get = (path) => call("GET", path);

/** Server-sent events over fetch, as EventSource cannot carry a key. Yields name and data of each event. */
export async function* events(path, init = {}, onOpen = () => {}) {
  const response = await send(path, init);
  onOpen(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let data = [];
  let name = "message";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const raw of lines) {
        const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
        if (line.startsWith("event:")) name = line.slice(6).trim();
        else if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
        else if (line === "" && data.length) {
          yield { name, data: data.join("\n") };
          data = [];
          name = "message";
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
