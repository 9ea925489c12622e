// --- The gateway: addresses, pictures and jobs --------------------------------------------------

const PATIENCE = 20; // seconds; then a model that has a queue gives a receipt for a job

/** Return the address that makes a picture again, relative to the page. */
function addressOf({ prompt, ...options }) {
  // Browsers resolve dots in a path, and `default` is a route of its own.
  const fits = ![".", "..", "default"].includes(prompt);
  if (!fits) options = { prompt, ...options };
  const set = Object.entries(options).map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
  return `inference/${fits ? encodeURIComponent(prompt) : "default"}?${set.join("&")}`;
}

const linkOf = (request) => new URL(addressOf(request), document.baseURI).href;

function curlOf(request) {
  // A key is never in the page: curl takes it from the shell's own variables.
  const key = studio.access === "key" ? ' --header "Authorization: Bearer $EASEL_KEY"' : "";
  return `curl --location${key} --output ${shellQuoted(fileName(request))} ${shellQuoted(linkOf(request))}`;
}

/** Return a work's picture as a blob; `queued` is called once the work has a job to wait for. */
async function pictureOf(work, queued) {
  const signal = work.control.signal;
  if (!work.job) {
    const response = await submit(work.request, signal);
    if (isPicture(response)) return noted(work, response);
    work.job = (await response.json()).id;
    await queued();
  }
  await jobDone(work.job, signal);
  return noted(work, await jobPicture(work.job, signal));
}

async function jobPicture(job, signal) {
  try {
    return await ask(`jobs/${job}/image`, { headers: { Accept: "image/*" }, signal });
  } catch (error) {
    // A picture that does not fit the response comes from S3, which the policy of this page forbids.
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

const isPicture = (response) => (response.headers.get("Content-Type") ?? "").startsWith("image/");

function noted(work, response) {
  if (!isPicture(response)) throw new Problem("The response is not a picture.");
  work.model = response.headers.get("X-Model") ?? work.request.model ?? "";
  work.painted = response.headers.get("X-Painted-Size");
  return response.blob();
}

/** Poll a job, as often as the gateway says, until it is done; throws a Problem if it fails. */
async function jobDone(job, signal) {
  for (;;) {
    let wait = POLL_SECONDS;
    try {
      const response = await ask(`jobs/${job}`, { headers: { Accept: "application/json" }, signal });
      const described = await response.json();
      if (described.state === "done") return;
      if (described.error) throw new Problem(described.error.message, { status: 400 });
      wait = Number(response.headers.get("Retry-After")) || POLL_SECONDS;
    } catch (error) {
      // A connection that breaks, or a gateway in trouble, says nothing about the picture.
      if (!(error instanceof Problem) || (error.status > 0 && error.status < 500)) throw error;
      wait = error.wait ?? POLL_SECONDS;
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
