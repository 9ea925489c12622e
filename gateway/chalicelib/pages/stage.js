// --- What is to be seen: the work on the easel, the wall of all works, and their clocks ---------

let staged = null; // the work on the easel
let ticking;

function stage(work) {
  staged = work;
  showWall();
  showStage();
}

/** Show the current state of the work on the easel. */
function showStage() {
  const state = staged?.state ?? "blank";
  const held = document.activeElement;
  const show = (id, visible) => { at(id).hidden = !visible; };
  show("blank", state === "blank");
  show("ideas", state === "blank");
  show("caption", state !== "blank");
  for (const id of ["wash", "clock", "progress"]) show(id, state === "painting");
  show("wrong", state === "failed" || state === "stopped");
  for (const each of at("caption").querySelectorAll("[data-for]")) {
    each.hidden = !each.dataset.for.split(" ").includes(state);
  }
  at("canvas").classList.toggle("blank", state !== "done");
  showPicture(state === "done" ? staged : null);
  if (staged) showWords(staged);
  showClocks();
  // The button that was pressed may be gone now: whoever pressed it goes on from another.
  if (held?.closest("#stage [hidden]")) (firstButton() ?? at("prompt")).focus();
}

const firstButton = () => [...at("caption").querySelectorAll("button")].find((each) => each.checkVisibility());

function showPicture(work) {
  const picture = at("picture");
  const { width, height } = work ?? { ...modelNamed(staged?.request.model)?.defaults, ...staged?.request };
  at("stage").style.setProperty("--shape", width / height || 1);
  picture.hidden = !work;
  if (!work) return picture.removeAttribute("src");
  if (picture.src === work.url) return;
  picture.src = work.url;
  picture.alt = work.request.prompt;
  picture.classList.remove("develop");
  if (work.fresh) requestAnimationFrame(() => picture.classList.add("develop"));
  work.fresh = false;
}

function showWords(work) {
  const { request } = work;
  at("words").textContent = request.prompt;
  at("wrong").textContent = work.problem?.message ?? "";
  at("facts").textContent = factsOf(work).join(" · ");
  showUnknown(work);
  at("open").href = linkOf(request);
  // Without a seed its address shows another picture.
  const isPassing = request.seed === undefined;
  at("vary").hidden = isPassing;
  for (const id of ["copy-link", "open"]) at(id).hidden ||= isPassing;
  if (work.state !== "done") return;
  at("download").href = work.url;
  at("download").download = fileName(request);
}

function factsOf({ request, model, state, seconds, width, height, painted }) {
  const { prompt, seed, model: wished, width: _, height: __, ...others } = request;
  const facts = [seed !== undefined && `seed ${seed}`, model || wished];
  if (state === "done") {
    const scaled = painted ? `, scaled up from ${painted.replace("x", " × ")}, this model's largest` : "";
    facts.push(`${width} × ${height}${scaled}`, `painted in ${duration(seconds)}`);
  }
  for (const [name, value] of Object.entries(others)) facts.push(`${name.replaceAll("_", " ")} ${value}`);
  return facts.filter(Boolean);
}

/** Show every work as a card, the newest first. */
function showWall() {
  const ids = new Set(works.map(({ id }) => id));
  for (const card of [...at("cards").children]) if (!ids.has(card.dataset.work)) card.remove();
  // The others are in order already. Taken out and put back, a card would lose the focus.
  let place = at("cards").firstElementChild;
  for (const work of works) {
    const card = place?.dataset.work === work.id ? place : newCard(work);
    if (card === place) place = place.nextElementSibling;
    else at("cards").insertBefore(card, place);
    showCard(card, work);
  }
  at("wall").hidden = !works.length;
  const [painting, done] = ["painting", "done"].map((state) => works.filter((work) => work.state === state).length);
  const counts = [done && `${done} ${done === 1 ? "picture" : "pictures"}`, painting && `${painting} being painted`];
  at("count").textContent = counts.filter(Boolean).join(", ");
  document.title = painting ? `(${painting}) Easel` : "Easel";
}

function newCard(work) {
  const card = at("card").content.firstElementChild.cloneNode(true);
  card.dataset.work = work.id;
  card.querySelector(".open").addEventListener("click", () => {
    stage(work);
    at("stage").scrollIntoView({ block: "nearest" });
  });
  card.querySelector(".stop").addEventListener("click", () => {
    cancel(work);
    card.querySelector(".open").focus();
  });
  return card;
}

const STATES = { painting: "being painted", done: "painted", failed: "failed", stopped: "cancelled" };

function showCard(card, work) {
  const image = card.querySelector("img");
  const open = card.querySelector(".open");
  const done = work.state === "done";
  if (done && image.src !== work.url) image.src = work.url;
  image.hidden = !done;
  open.classList.toggle("busy", work.state === "painting");
  open.title = work.request.prompt;
  open.setAttribute("aria-current", work === staged);
  open.querySelector(".unseen").textContent = `${work.request.prompt}, ${STATES[work.state]}`;
  open.querySelector(".mark").hidden = done;
  open.querySelector(".mark span").textContent = work.request.prompt;
  open.querySelector(".mark b").textContent = STATES[work.state];
  card.querySelector(".stop").hidden = work.state !== "painting";
  card.querySelector(".stop .unseen").textContent = `Cancel ${work.request.prompt}`;
}

/** Bring every clock up to date, and let them tick while there is something to count. */
function showClocks() {
  const painting = works.filter((work) => work.state === "painting");
  for (const work of painting) {
    const open = at("cards").querySelector(`[data-work="${work.id}"] .open`);
    open.querySelector(".mark b").textContent = duration(elapsed(work));
    open.style.setProperty("--done", progressOf(work));
  }
  if (staged?.state === "painting") showProgress(staged);
  if (staged) showRetry(staged);
  const counting = painting.length > 0 || staged?.retryAt > Date.now();
  if (counting) ticking ??= setInterval(showClocks, 250);
  else ticking = clearInterval(ticking);
}

const elapsed = (work) => Math.max(0, (Date.now() - work.started) / 1000);

/** Return how much of a work is done, from 0 to 1. The end is unknown: it waits just short of it. */
const progressOf = (work) => (work.expected ? Math.min(elapsed(work) / work.expected, 0.98) : 0);

function showProgress(work) {
  const spent = elapsed(work);
  at("elapsed").textContent = duration(spent);
  const progress = at("progress");
  if (work.expected) {
    progress.value = progressOf(work);
    at("expected").textContent = spent < work.expected ? `of about ${duration(work.expected)}` : `usually about ${duration(work.expected)}`;
  } else {
    progress.removeAttribute("value");
    at("expected").textContent = work.job ? "waiting in the queue" : "so far";
  }
}

function showRetry(work) {
  const left = Math.ceil(((work.retryAt ?? 0) - Date.now()) / 1000);
  at("retry").disabled = left > 0;
  at("retry").textContent = left > 0 ? `Try again in ${left} s` : "Try again";
}
