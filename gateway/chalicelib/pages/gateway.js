// --- The gateway: addresses, pictures, jobs, and what it says when there is none ---------------

const PATIENCE = 20; // seconds; then a model that has a queue gives a receipt for a job
const LOOK_AGAIN = 5; // seconds after a connection broke

/** Why there is no picture, in words for a person. */
class Problem extends Error {
  constructor(message, { status = 0, field = "", wait = null } = {}) {
    super(message);
    Object.assign(this, { status, field, wait });
  }
}

// What API Gateway itself answers has no words of ours in it.
const WORDS = {
  401: "A key is needed to paint here.",
  403: "That is not allowed here.",
  404: "There is no such address here.",
  413: "That is too long to be sent.",
  414: "That is too long for an address. Fewer words would do.",
  429: "Too many asked at once.",
  502: "The easel could not do it.",
  503: "The easel is busy.",
  504: "The easel took too long.",
};

/** Return the address that makes a picture again, relative to the page. */
function addressOf({ prompt, ...options }) {
  const set = Object.entries(options).map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
  return `inference/${encodeURIComponent(prompt)}?${set.join("&")}`;
}

const linkOf = (request) => new URL(addressOf(request), document.baseURI).href;

function curlOf(request) {
  // A key is never in the page: curl takes it from the shell's own variables.
  const key = studio.access === "key" ? ' --header "Authorization: Bearer $EASEL_KEY"' : "";
  return `curl --location${key} --output ${shellQuoted(fileName(request))} ${shellQuoted(linkOf(request))}`;
}

/** Fetch, and throw a Problem for whatever is no success. */
async function ask(address, init) {
  let answer;
  try {
    answer = await fetch(address, init);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const reason = navigator.onLine ? "The easel cannot be reached." : "This device is offline.";
    throw new Problem(reason, { wait: LOOK_AGAIN });
  }
  if (!answer.ok) throw await problemOf(answer);
  return answer;
}

async function problemOf(answer) {
  const told = (await answer.json().catch(() => ({})))?.error ?? {};
  const wait = Number(answer.headers.get("Retry-After")) || told.retry_after || null;
  const message = told.message ?? WORDS[answer.status] ?? `The easel answered with status ${answer.status}.`;
  return new Problem(message, { status: answer.status, field: told.field ?? "", wait });
}

/** Return a work's picture as a blob; `queued` is called once the work has a job to wait for. */
async function pictureOf(work, queued) {
  const signal = work.control.signal;
  if (!work.job) {
    const answer = await submit(work.request, signal);
    if (isPicture(answer)) return noted(work, answer);
    work.job = (await answer.json()).id;
    await queued();
  }
  await jobDone(work.job, signal);
  return noted(work, await jobPicture(work.job, signal));
}

async function jobPicture(job, signal) {
  try {
    return await ask(`jobs/${job}/image`, { headers: { Accept: "image/*" }, signal });
  } catch (error) {
    // What does not fit an answer of the gateway's comes from S3, which this page may not fetch from.
    if (error.status === 0 && navigator.onLine) error.message = "It is painted, but too large for this page. Open it by itself.";
    throw error;
  }
}

function submit(request, signal) {
  if (modelNamed(request.model)?.asynchronous) {
    const headers = { "Content-Type": "application/json", Accept: "application/json" };
    return ask("jobs", { method: "POST", headers, body: JSON.stringify(request), signal });
  }
  const headers = { Accept: "image/*", Prefer: `wait=${PATIENCE}` };
  return ask(addressOf(request), { headers, signal });
}

const isPicture = (answer) => (answer.headers.get("Content-Type") ?? "").startsWith("image/");

function noted(work, answer) {
  if (!isPicture(answer)) throw new Problem("What came back is no picture.");
  work.model = answer.headers.get("X-Model") ?? work.request.model ?? "";
  return answer.blob();
}

/** Look at a job, as often as the gateway says, until it is done; throws a Problem if it fails. */
async function jobDone(job, signal) {
  for (;;) {
    let wait = LOOK_AGAIN;
    try {
      const answer = await ask(`jobs/${job}`, { headers: { Accept: "application/json" }, signal });
      const told = await answer.json();
      if (told.state === "done") return;
      if (told.error) throw new Problem(told.error.message, { status: 400 });
      wait = Number(answer.headers.get("Retry-After")) || LOOK_AGAIN;
    } catch (error) {
      // A connection that breaks, or a gateway in trouble, says nothing about the picture.
      if (!(error instanceof Problem) || (error.status > 0 && error.status < 500)) throw error;
      wait = error.wait ?? LOOK_AGAIN;
    }
    await pause(wait, signal);
  }
}

/** Sign this browser in with a key, or out with none. */
function session(key) {
  if (key === null) return ask("session", { method: "DELETE" });
  const headers = { "Content-Type": "application/json" };
  return ask("session", { method: "POST", headers, body: JSON.stringify({ key }) });
}
