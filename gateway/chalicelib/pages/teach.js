// --- What a person asks for: the form, its price, the start, and the way to a job ------------------

// Fields that the options show; all others of the API have their defaults.
const SHOWN = ["steps", "resolution", "rank", "rate", "text_encoder_rate", "seed"];
const PRICE_DELAY = 600; // milliseconds after the last change
const JSON_HEADERS = { "Content-Type": "application/json", Accept: "application/json" };
const NO_PRICE = "Shown here before you start, once there are pictures, a trigger and a name.";

let rules = {}; // the fields' JSON Schema
let uploadedSet = null; // {pictures, dataset}: what is there already if a start failed
let uploading = null; // an AbortController
let pricing = null;

const tidy = (id) => at(id).value.trim().replace(/\s+/g, " ");

/** Return the caption of a picture without its own, as the trainer makes it. */
const usualCaption = () => [tidy("trigger"), tidy("class_prompt")].filter(Boolean).join(", ");

/** Return what is asked for, without the pictures. */
function asked() {
  const [trigger, kind] = [tidy("trigger"), tidy("class_prompt")];
  const request = { name: at("name").value.trim(), trigger, model: at("model").value, captions: captionsOf() };
  // The caption of pictures without their own has the kind in it, which the model knows.
  if (kind) Object.assign(request, { class_prompt: kind, instance_prompt: kind, preserve: "output" });
  const samples = at("sample_prompts").value.split("\n").map((line) => line.trim()).filter(Boolean);
  request.sample_prompts = samples.length ? samples : [usualCaption()];
  for (const name of SHOWN) {
    const text = at(`option-${name}`)?.value.trim();
    if (text) request[name] = Number(text);
  }
  if (at("on_demand").checked) request.on_demand = true;
  return request;
}

/** Return the first thing that is wrong, as the field and the words for it; null if nothing is. */
function firstWrong() {
  if (!pictures.length) return { field: "dataset", message: "Choose pictures first." };
  if (!tidy("trigger")) return { field: "trigger", message: "Give it a word that calls it up." };
  const name = at("name").value.trim();
  if (!name) return { field: "name", message: "Give it a name." };
  if (!new RegExp(rules.name.pattern, "u").test(name)) {
    return { field: "name", message: "A name has letters, digits, dots, hyphens and underscores, starts with a letter or a digit, and has 63 of them at most." };
  }
  for (const control of at("fields").querySelectorAll("input")) {
    if (!control.checkValidity()) return { field: control.name, message: `It has to be ${allowed(rules[control.name])}.` };
  }
  return null;
}

function allowed({ type, minimum, maximum, multipleOf }) {
  const number = multipleOf ? `a multiple of ${multipleOf}` : type === "integer" ? "a whole number" : "a number";
  return `${number} from ${minimum} to ${maximum.toLocaleString("en")}`;
}

/** Show what is wrong next to the field that it is about, and lead there; else below the button. */
function show(problem) {
  const field = problem.field.startsWith("files") || problem.field === "captions" || problem.field === "pictures" ? "dataset" : problem.field;
  const aliased = { instance_prompt: "class_prompt", preserve: "class_prompt" }[field] ?? field;
  if (aliased === "dataset") {
    complain("dataset-wrong", problem.message);
    at("files").focus();
  } else if (at(`${aliased}-wrong`)) {
    accuse({ field: aliased, message: problem.message });
  } else {
    complain("start-wrong", problem.message);
  }
}

// --- The price ------------------------------------------------------------------------------------

changed = () => {
  complain("start-wrong"); // a start's error stays until the form is another one
  const usual = usualCaption();
  for (const caption of at("pictures").querySelectorAll("textarea")) caption.placeholder = usual || "Caption (optional)";
  at("named").textContent = at("name").value.trim() || at("name").placeholder;
  const set = [...SHOWN.map((name) => at(`option-${name}`)), at("sample_prompts")].filter((control) => control?.value.trim()).length + at("on_demand").checked;
  at("chosen").textContent = set ? `(${set} chosen)` : "";
  clearTimeout(pricing?.timer);
  pricing?.control.abort();
  pricing = { control: new AbortController() };
  if (firstWrong()) return showPrice(null, NO_PRICE);
  pricing.timer = setTimeout(() => askPrice(pricing.control.signal), PRICE_DELAY);
};

async function askPrice(signal) {
  const body = JSON.stringify({ ...asked(), pictures: pictures.length, dry_run: true });
  try {
    const response = await ask("train", { method: "POST", headers: JSON_HEADERS, body, signal });
    const price = await response.json();
    for (const wrong of at("ask").querySelectorAll(".wrong")) if (!["dataset-wrong", "start-wrong"].includes(wrong.id)) complain(wrong.id);
    for (const control of at("ask").querySelectorAll("[aria-invalid]")) control.removeAttribute("aria-invalid");
    showPrice(price);
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof Problem)) throw error;
    showPrice(null, "There is no price yet.");
    // Whoever types elsewhere is not led away.
    const held = document.activeElement;
    show(error);
    held?.focus({ preventScroll: true });
  }
}

function showPrice(price, reason) {
  at("price").textContent = price ? priceOf(price) : "Price and time";
  at("price-of").textContent = price ? [`${price.steps.toLocaleString("en")} steps`, at("model").options.length > 1 && price.model, price.spot && price.cost.most && "on a spot instance"].filter(Boolean).join(", ") : reason;
}

function priceOf({ seconds, cost }) {
  const time = `About ${minutes(seconds.expected)}`;
  if (!cost.most) return `${time}, free on this machine`;
  return `${time} and ${dollars(cost.expected)}, at most ${minutes(seconds.most)} and ${dollars(cost.most)}`;
}

// --- The start ------------------------------------------------------------------------------------

at("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (uploading) return;
  forgive();
  at("watch-running").hidden = true;
  const wrong = firstWrong();
  if (wrong) return show(wrong);
  uploading = new AbortController();
  try {
    showUpload("");
    const id = await begin(uploading.signal);
    say("Started.");
    location.hash = id;
  } catch (error) {
    if (error.name === "AbortError") return say("Cancelled.");
    if (!(error instanceof Problem)) throw error;
    show(error);
    const running = error.place?.match(/train\/(\w+)$/)?.[1];
    at("watch-running").hidden = !running;
    if (running) at("watch-running").firstElementChild.href = `teach#${running}`;
  } finally {
    uploading = null;
    showUpload(null);
  }
});

/** Check everything, upload what is not there yet, start the job, and return its id. */
async function begin(signal) {
  const request = asked();
  const set = pictures.map(({ id }) => id).join("\n");
  const send = async (body) => (await ask("train", { method: "POST", headers: JSON_HEADERS, body: JSON.stringify(body), signal })).json();
  if (uploadedSet?.set !== set) {
    // What is wrong with a field is said before anything is sent.
    await send({ ...request, pictures: pictures.length, dry_run: true });
    uploadedSet = null;
    const dataset = await upload((share) => showUpload(`Uploading the pictures: ${Math.floor(100 * share)}%`, share), signal);
    uploadedSet = { set, dataset };
  }
  showUpload("Starting ...", 1);
  const { id } = await send({ ...request, dataset: uploadedSet.dataset });
  return id;
}

/** Show how much is uploaded; null once nothing is going on. */
function showUpload(words, share = 0) {
  const busy = words !== null;
  at("uploading").hidden = at("stop-upload").hidden = !busy;
  at("start").disabled = at("chosen-pictures").inert = busy;
  at("uploaded").value = share;
  at("upload-state").textContent = words || "Checking ...";
}

at("stop-upload").addEventListener("click", () => {
  uploading?.abort();
  at("start").disabled = false;
  at("start").focus();
});
addEventListener("beforeunload", (event) => { if (uploading) event.preventDefault(); });

// --- Choosing pictures ------------------------------------------------------------------------------

at("files").addEventListener("change", async () => {
  await take(at("files").files);
  at("files").value = ""; // the same file can be chosen again
});
const isForm = () => !at("ask").hidden && !uploading;
addEventListener("dragover", (event) => {
  if (!isForm() || !event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  at("drop").classList.add("over");
});
addEventListener("dragleave", (event) => { if (!event.relatedTarget) at("drop").classList.remove("over"); });
addEventListener("drop", (event) => {
  at("drop").classList.remove("over");
  if (!isForm() || !event.dataTransfer?.files.length) return;
  event.preventDefault(); // the browser would open the picture
  take(event.dataTransfer.files);
});
addEventListener("paste", (event) => { if (isForm() && event.clipboardData?.files.length) take(event.clipboardData.files); });
at("ask").addEventListener("input", ({ target }) => {
  target.removeAttribute("aria-invalid");
  if (at(`${target.name}-wrong`)) complain(`${target.name}-wrong`);
  changed();
});

for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}

// --- Which view: the form, or a job -------------------------------------------------------------------

async function route() {
  const id = location.hash.slice(1);
  const isJob = /^\w+$/.test(id);
  complain("trouble");
  at("ask").hidden = isJob;
  at("job").hidden = true;
  document.title = "Teach it - Easel";
  scrollTo(0, 0);
  if (isJob) {
    await watch(id);
    at("job-name").focus();
  } else {
    forgetJob();
  }
  await showJobs();
}

/** List the caller's jobs, the newest first. */
async function showJobs() {
  try {
    const { jobs } = await (await ask("train", { headers: { Accept: "application/json" } })).json();
    at("wall").hidden = !jobs.length;
    at("jobs").replaceChildren(...jobs.map(newJobCard));
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (at("trouble").hidden) showTrouble(error);
  }
}

function newJobCard({ id, name, model, state, created }) {
  const card = at("job-card").content.firstElementChild.cloneNode(true);
  const link = card.firstElementChild;
  link.href = `teach#${id}`;
  if (id === watched?.id) link.setAttribute("aria-current", "page");
  link.querySelector("b").textContent = name;
  link.querySelector(".state-word").textContent = STATES[state] ?? state;
  const day = new Date(created).toLocaleDateString(undefined, { dateStyle: "medium" });
  link.querySelector(".of").textContent = `${model} · ${day}`;
  return card;
}

function showTrouble(error) {
  if (error.status === 404) at("ask").hidden = false;
  const advice = error.status === 401 ? " Reload the page to sign in again." : "";
  complain("trouble", `${error.message}${advice}`);
}

async function open() {
  try {
    const { training } = await (await ask("options", { headers: { Accept: "application/json" } })).json();
    rules = training.fields.properties;
    limits = { ...training.pictures, longest_caption: rules.instance_prompt.maxLength };
    at("files").accept = limits.types.join(",");
    at("limits").textContent = `Up to ${limits.most} ${kinds()} pictures. Drop .txt files of the same names for their captions.`;
    for (const id of ["trigger", "class_prompt"]) at(id).maxLength = rules[id].maxLength;
    at("model").replaceChildren(...training.models.map((name) => new Option(name, name)));
    at("models").hidden = training.models.length < 2;
    at("fields").replaceChildren(...SHOWN.map((name) => {
      const field = fieldOf(name, rules[name]);
      const control = field.querySelector("input");
      limit(control, rules[name]);
      control.placeholder = rules[name].default ?? rules[name]["x-unset"] ?? "";
      return field;
    }));
    changed();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    return showTrouble(error);
  }
  addEventListener("hashchange", route);
  await route();
}

open();
