// --- A training job: its state, its curve and its samples, as they come ---------------------------

const SHORTEST_WAIT = 3; // seconds between two looks at a job that changes
const LONGEST_WAIT = 30; // at one that does not, or that cannot be reached
const OVER = ["published", "failed", "stopped"];
const CANCELLABLE = ["queued", "starting", "downloading", "training", "interrupted", "uploading"];
const STATES = {
  queued: "Waiting for a machine",
  starting: "A machine is starting",
  downloading: "The machine fetches the pictures and the model",
  training: "It is learning",
  interrupted: "The machine was taken away; another one will go on from the last checkpoint",
  uploading: "What it learned is being stored",
  completed: "What it learned is being checked",
  published: "It has learned it",
  failed: "It did not learn it",
  stopping: "Stopping",
  stopped: "Cancelled",
};

let watched = null; // {id, control, job, shown, timer}

/** Show a job, and look at it again and again until it is over or another one is shown. */
function watch(id) {
  forgetJob();
  watched = { id, control: new AbortController(), job: null, shown: null, latest: null, wait: SHORTEST_WAIT };
  at("samples").replaceChildren();
  showSample(null);
  return look(watched);
}

function forgetJob() {
  watched?.control.abort();
  clearTimeout(watched?.timer);
  watched = null;
}

async function look(watch) {
  clearTimeout(watch.timer);
  let asked = null;
  try {
    const response = await ask(`train/${watch.id}`, { headers: { Accept: "application/json" }, signal: watch.control.signal });
    asked = Number(response.headers.get("Retry-After")) || null;
    const job = await response.json();
    const before = JSON.stringify([watch.job?.state, watch.job?.step, watch.job?.samples]);
    const after = JSON.stringify([job.state, job.step, job.samples]);
    watch.wait = before === after ? Math.min(watch.wait * 1.5, LONGEST_WAIT) : SHORTEST_WAIT;
    complain("trouble");
    showJob(watch, job);
    if (OVER.includes(job.state)) return;
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof Problem)) throw error;
    if (error.status >= 400 && error.status < 500 && error.status !== 429) return showTrouble(error);
    watch.wait = Math.min(watch.wait * 2, LONGEST_WAIT);
    asked = error.wait;
    complain("trouble", `${error.message} It is tried again.`);
  }
  later(watch, asked ?? watch.wait);
}

/** Look again after a while; in a tab that nobody sees, once it is seen. */
function later(watch, seconds) {
  watch.due = Date.now() + 1000 * seconds;
  if (!document.hidden) watch.timer = setTimeout(() => look(watch), 1000 * seconds);
}

document.addEventListener("visibilitychange", () => {
  if (!watched?.due) return;
  clearTimeout(watched.timer);
  if (!document.hidden) later(watched, Math.max(0, (watched.due - Date.now()) / 1000));
});

function showJob(watch, job) {
  const { state, result } = job;
  const deleted = state === "published" && !result;
  const words = deleted ? "It was deleted" : STATES[state] ?? state;
  if (watch.job?.state !== state) say(`${job.name}: ${words}.`);
  const card = at("jobs").querySelector("[aria-current] .state-word");
  if (card) card.textContent = words;
  watch.job = job;
  at("job").hidden = false;
  at("job-name").textContent = job.name;
  at("job-state").textContent = `${words}.`;
  at("job-facts").textContent = factsOf(job).join("\n");
  complain("job-wrong", job.error ?? "");
  showSteps(job);
  at("use").hidden = !result;
  if (result) at("use").href = `./?${new URLSearchParams({ prompt: result.prompt, model: job.model, lora: result.lora })}`;
  at("delete").hidden = !result;
  at("cancel").hidden = !CANCELLABLE.includes(state);
  at("resume").hidden = !["failed", "stopped"].includes(state);
  showCurve(job);
  showSamples(watch, job);
  const share = state === "training" && job.steps ? `(${Math.floor((100 * job.step) / job.steps)}%) ` : "";
  document.title = `${share}${job.name} - Easel`;
}

function factsOf(job) {
  const { so_far: spent, most } = job.cost;
  const number = (count) => count.toLocaleString("en");
  const facts = [`Step ${number(job.step)} of ${number(job.steps)}`];
  if (job.seconds_left !== null) facts[0] += `, about ${minutes(job.seconds_left)} left`;
  const limit = OVER.includes(job.state) ? "" : ` so far, at most ${dollars(most)}`;
  facts.push(most ? `${dollars(spent)}${limit}${job.spot ? ", on a spot instance" : ""}` : "Free on this machine");
  facts.push([job.model, `${number(job.pictures)} ${job.pictures === 1 ? "picture" : "pictures"}`, job.attempt > 1 && `attempt ${job.attempt}`].filter(Boolean).join(" · "));
  return facts;
}

const minutes = (seconds) => (seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`);

function dollars(usd) {
  return usd && usd < 0.01 ? "< $0.01" : `$${usd.toFixed(2)}`;
}

function showSteps({ state, step, steps }) {
  const progress = at("steps");
  progress.hidden = OVER.includes(state);
  if (state === "training" || step) progress.value = step / steps;
  else progress.removeAttribute("value");
}

// --- Samples --------------------------------------------------------------------------------------

const stepOf = (url) => Number(url.split("/").at(-1));

/** Show a card for each sample sheet; the newest is on the easel, unless another one was chosen. */
function showSamples(watch, job) {
  for (const url of job.samples.slice(at("samples").children.length)) at("samples").append(newSample(watch, url));
  const newest = job.samples.at(-1) ?? null;
  if (newest && (!watch.shown || watch.shown === watch.latest)) showSample(watch.shown = newest);
  watch.latest = newest;
  const busy = !OVER.includes(job.state);
  at("wash").hidden = !busy || Boolean(newest);
  at("blank").textContent = busy ? "The first samples will stand here." : "There are no samples.";
}

function newSample(watch, url) {
  const card = at("sample-card").content.firstElementChild.cloneNode(true);
  const open = card.querySelector(".open");
  card.querySelector("img").src = url;
  card.dataset.sample = url;
  open.setAttribute("aria-label", `Samples at step ${stepOf(url)}`);
  open.addEventListener("click", () => showSample(watch.shown = url));
  return card;
}

/** Put a sample sheet on the easel; null for none. */
async function showSample(url) {
  for (const card of at("samples").children) card.querySelector(".open").setAttribute("aria-current", card.dataset.sample === url);
  const image = at("sample");
  at("blank").hidden = Boolean(url);
  image.hidden = at("sample-of").hidden = !url;
  at("canvas").classList.toggle("blank", !url);
  if (!url) return image.removeAttribute("src");
  at("sample-of").textContent = stepOf(url) ? `Painted at step ${stepOf(url).toLocaleString("en")}` : "Painted before it learned";
  if (image.getAttribute("src") === url) return;
  image.src = url;
  image.alt = `Samples at step ${stepOf(url)}`;
  await image.decode().catch(() => {});
  if (image.naturalWidth) at("stage").style.setProperty("--shape", image.naturalWidth / image.naturalHeight);
}

// --- The loss -------------------------------------------------------------------------------------

const [WIDE, HIGH, LEFT, BOTTOM] = [320, 150, 34, 16]; // of the drawing, and the room for its numbers

function drawn(name, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [attribute, value] of Object.entries(attributes)) element.setAttribute(attribute, value);
  element.textContent = text;
  return element;
}

/** Return an exponential mean over about a twentieth of the points, as in loss.svg. */
function meansOf(points) {
  const keep = 1 - 1 / Math.max(points.length / 20, 1);
  let [total, weight] = [0, 0];
  return points.map(([step, loss]) => {
    [total, weight] = [total * keep + loss, weight * keep + 1];
    return [step, total / weight];
  });
}

function showCurve({ loss, validation, steps, step }) {
  at("loss").hidden = !loss.length;
  if (!loss.length) return;
  const means = meansOf(loss);
  // Single high losses do not set the axis: a twentieth at either end may be beyond it.
  const sorted = loss.map(([, value]) => value).sort((a, b) => a - b);
  const twentieth = Math.floor(sorted.length / 20);
  const values = [...means, ...validation].map(([, value]) => value);
  const low = Math.min(sorted[twentieth], ...values);
  const high = Math.max(sorted.at(-1 - twentieth), ...values, low + 1e-9);
  const across = (at) => LEFT + (at / Math.max(steps, 1)) * (WIDE - LEFT);
  const down = (value) => 6 + Math.min(Math.max((high - value) / (high - low), 0), 1) * (HIGH - BOTTOM - 6);
  const line = (kind, points) => drawn("polyline", { class: kind, points: points.map(([at, value]) => `${across(at).toFixed(1)},${down(value).toFixed(1)}`).join(" ") });
  const grid = [0, 0.5, 1].flatMap((share) => {
    const value = low + share * (high - low);
    return [
      drawn("path", { class: "grid", d: `M${LEFT} ${down(value)}H${WIDE}` }),
      drawn("text", { x: LEFT - 4, y: down(value) + 3, "text-anchor": "end" }, Number(value.toFixed(value < 1 ? 3 : 2))),
    ];
  });
  const ends = [[0, "start"], [0.5, "middle"], [1, "end"]].map(([share, anchor]) => drawn("text", { x: across(share * steps), y: HIGH - 3, "text-anchor": anchor }, Math.round(share * steps).toLocaleString("en")));
  at("curve").replaceChildren(...grid, ...ends, line("each", loss), line("mean", means), ...(validation.length ? [line("validation", validation)] : []));
  at("validation-key").hidden = !validation.length;
  const now = means.at(-1)[1].toPrecision(3);
  at("loss-now").textContent = `${now} at step ${step.toLocaleString("en")}`;
  at("curve").setAttribute("aria-label", `Curve of the loss: from ${means[0][1].toPrecision(3)} to ${now} at step ${step}`);
}

// --- Cancelling, resuming, deleting ---------------------------------------------------------------

at("cancel").addEventListener("click", () => at("cancel-dialog").showModal());
at("delete").addEventListener("click", () => {
  at("deleted").textContent = watched.job.name;
  at("delete-dialog").showModal();
});

/** Ask the gateway for a change of the job, and show what became of it. */
async function change(button, address, method) {
  const watch = watched;
  const dialog = button.closest("dialog");
  button.disabled = true;
  try {
    const body = method === "POST" ? "{}" : null;
    await ask(address, { method, body, headers: { "Content-Type": "application/json", Accept: "application/json" } });
    dialog?.close();
    watch.wait = SHORTEST_WAIT;
    await look(watch);
  } catch (error) {
    dialog?.close();
    if (!(error instanceof Problem)) throw error;
    complain("job-wrong", error.message);
  } finally {
    button.disabled = false;
    if (!document.activeElement?.checkVisibility() || document.activeElement === document.body) at("job-name").focus();
  }
}

at("cancel-yes").addEventListener("click", ({ target }) => change(target, `train/${watched.id}/cancel`, "POST"));
at("resume").addEventListener("click", ({ target }) => change(target, `train/${watched.id}/resume`, "POST"));
at("delete-yes").addEventListener("click", ({ target }) => {
  const { model, name } = watched.job;
  change(target, `loras/${encodeURIComponent(model)}/${encodeURIComponent(name)}`, "DELETE");
});
