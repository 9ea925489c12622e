// --- The life of a work: requested, painted or failed, stored, removed ---------------------------

const gallery = new Gallery();
let works = []; // the newest first

/** Whether a model's pictures can be made again. */
const repeats = ({ model }) => takes(modelNamed(model), "seed");

/** Start a picture. The seed is chosen here, so that its link exists before the picture does. */
function paint(request) {
  const { seed, ...others } = request;
  const work = {
    id: `${Date.now()}-${anySeed()}`,
    request: repeats(request) ? { ...request, seed: seed ?? anySeed() } : others,
    made: Date.now(),
  };
  works.unshift(work);
  stage(work);
  at("canvas").scrollIntoView({ block: "nearest" });
  return run(work);
}

const anySeed = () => crypto.getRandomValues(new Uint32Array(1))[0];

/** Wait for a work's picture; a work that has a job already goes on waiting for that. */
async function run(work) {
  work.started = work.job ? work.started : Date.now();
  work.expected = expectation(work.request);
  work.control = new AbortController();
  change(work, "painting");
  say(`Painting: ${work.request.prompt}`);
  try {
    await finish(work, await pictureOf(work, () => keep(work)));
  } catch (error) {
    fail(work, error);
  }
}

async function finish(work, blob) {
  await develop(work, blob);
  work.control.signal.throwIfAborted();
  Object.assign(work, { seconds: elapsed(work), fresh: true, problem: null });
  change(work, "done");
  showPrices();
  await keep(work);
  const unknown = unknownIn(work);
  const warning = unknown.length ? `. Unknown to this model: ${unknown.join(", ")}` : "";
  say(`Painted in ${duration(work.seconds)}: ${work.request.prompt}${warning}`);
}

/** Make a picture of the blob. */
async function develop(work, blob) {
  const image = new Image();
  work.blob = blob;
  work.url = image.src = URL.createObjectURL(blob);
  await image.decode().catch(() => { throw new Problem("What came back is no picture."); });
  Object.assign(work, { width: image.naturalWidth, height: image.naturalHeight });
}

function fail(work, error) {
  if (error.name === "AbortError") return;
  const foreseen = error instanceof Problem;
  work.problem = foreseen ? error : new Problem("Something went wrong in this page.");
  work.retryAt = work.problem.wait ? Date.now() + 1000 * work.problem.wait : 0;
  if (work.problem.status >= 400 && work.problem.status !== 401) work.job = null; // a new request retries it
  if (!work.job) gallery.drop(work.id);
  change(work, "failed");
  say(`No picture. ${work.problem.message}`);
  if (work.problem.status === 401) signIn();
  if (work.problem.field && work === staged) accuse(work.problem);
  if (!foreseen) throw error;
}

/** Stop waiting. A request that a model has cannot be cancelled: it may be painted nevertheless. */
async function cancel(work) {
  work.problem = new Problem("Cancelled. The model may finish it, but this page no longer waits for it.");
  Object.assign(work, { retryAt: 0, job: null });
  change(work, "stopped");
  work.control.abort();
  await gallery.drop(work.id);
  say("Cancelled.");
}

function remove(work) {
  URL.revokeObjectURL(work.url);
  const place = works.indexOf(work);
  works = works.filter((each) => each !== work);
  if (work === staged) staged = works[place] ?? works.at(-1) ?? null;
  showWall();
  showStage();
  return gallery.drop(work.id);
}

function change(work, state) {
  work.state = state;
  showWall();
  if (work === staged) showStage();
  else showClocks();
}

let keepsPictures = true; // until the browser refuses one; then they are in memory alone

/** Keep a picture, or a job to wait for after a reload; the oldest pictures make room if it is full. */
async function keep(work) {
  const { id, request, made, started, state, job, model, seconds, blob, width, height, painted } = work;
  const record = { id, request, made, started, state, job, model, seconds, blob, width, height, painted };
  for (const old of works.filter((each) => each.state === "done").slice(MOST_KEPT)) remove(old);
  let kept = await gallery.keep(record);
  while (kept === "full" && works.some((each) => isOlder(each, work))) {
    remove(works.findLast((each) => isOlder(each, work)));
    kept = await gallery.keep(record);
  }
  if (!works.includes(work)) gallery.drop(id); // removed while it was being kept
  if (kept === "refused") keepsPictures = false;
  at("kept").textContent = !keepsPictures ? NOT_KEPT : kept === "kept" ? KEPT : FULL;
}

const KEPT = `Kept in this browser alone, the newest ${MOST_KEPT}.`;
const FULL = "This browser has no room left: the newest picture is gone when the page is closed or reloaded.";
const NOT_KEPT = "This browser keeps nothing for this page: the pictures are gone when it is closed or reloaded.";
const isOlder = (each, work) => each.state === "done" && each.made < work.made;

/** Hang up again what was kept, and go on waiting for what was not ready. */
async function restore() {
  const kept = await gallery.all();
  works = [...works, ...kept.filter(({ id }) => works.every((work) => work.id !== id))];
  for (const work of works) if (work.blob && !work.url) work.url = URL.createObjectURL(work.blob);
  if (!await gallery.lasts()) at("kept").textContent = NOT_KEPT;
  stage(staged ?? works[0] ?? null);
  for (const work of works) if (work.state === "painting" && !work.control) run(work);
}

/** Return how many seconds a picture takes: as this browser's latest like it, or as the model says. */
function expectation(request) {
  const alike = works.filter(({ state, request: other }) => state === "done"
    && ["model", "width", "height", "steps"].every((name) => other[name] === request[name]));
  if (alike.length) return median(alike.slice(0, 5).map((work) => work.seconds));
  return modelNamed(request.model)?.seconds ?? null;
}

/** Show next to each model how long a picture takes. */
function showPrices() {
  for (const option of at("model").options) {
    const { name, asynchronous } = modelNamed(option.value);
    const seconds = expectation({ model: name });
    const price = [seconds && `about ${duration(seconds)}`, asynchronous && "by the queue"].filter(Boolean).join(", ");
    option.textContent = price ? `${name} (${price})` : name;
  }
}
