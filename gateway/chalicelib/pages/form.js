// --- The form: prompt, model, and the options that the gateway's contract offers ----------------

// The response of /api/options; every part of it can be missing.
const studio = { fields: {}, models: [], access: "open" };
const ELSEWHERE = ["prompt", "model"]; // fields that have a place of their own in the page

const modelNamed = (name) => studio.models.find((each) => each.name === name) ?? studio.models[0];

async function loadOptions() {
  const described = await (await ask("options", { headers: { Accept: "application/json" } })).json();
  studio.fields = described.fields?.properties ?? {};
  studio.models = described.models ?? [];
  studio.access = described.access ?? "open";
  studio.training = described.training ?? null;
  studio.usage = described.usage ?? false;
  at("model").replaceChildren(...studio.models.map(({ name }) => new Option(name, name)));
  at("models").hidden = studio.models.length < 2;
  at("fields").replaceChildren(...optionNames().map((name) => fieldOf(name, studio.fields[name])));
  at("options").hidden = !optionNames().length;
  showModel();
}

const optionNames = () => Object.keys(studio.fields).filter((name) => !ELSEWHERE.includes(name));

/** Whether a model can carry out a field; what it cannot is refused by the gateway. */
const takes = (model, name) => !model?.unsupported?.includes(name);

/** Show what the chosen model is, and what it would take. */
function showModel() {
  showDescription();
  showFacts();
  showDefaults();
}

/** Show what the catalogue says of the model, and what its licence requires. */
function showFacts() {
  const { facts, defaults = {} } = modelNamed(at("model").value) ?? {};
  at("model-facts").hidden = !facts;
  if (!facts) return;
  const { steps } = defaults;
  const parts = [
    facts.title,
    facts.licence,
    steps && `${steps} ${steps === 1 ? "step" : "steps"}`,
    facts.memory_gb && `${facts.memory_gb} GB of GPU memory`,
    facts.usd_per_1000 && `about ${facts.usd_per_1000.toFixed(2)} USD per 1,000 pictures`,
    facts.instance_types?.join(" or "),
  ];
  at("model-facts").textContent = `${parts.filter(Boolean).join(" · ")}. ${facts.duties ?? ""}`.trim();
}

/** Show, where nothing is chosen, what the model at hand would take. */
function showDefaults() {
  const model = modelNamed(at("model").value);
  for (const name of optionNames()) {
    const schema = schemaOf(model, name);
    limit(at(`option-${name}`), schema);
    at(`option-${name}`).parentElement.hidden = !takes(model, name);
    const fallback = model?.defaults?.[name] ?? schema.default ?? schema["x-unset"] ?? "";
    at(`option-${name}`).placeholder = fallback || (schema.examples ?? [])[0] || "";
  }
  if (at("hint-lora") && model?.loras?.length) {
    at("hint-lora").textContent = `${studio.fields.lora.description} This one has ${model.loras.join(", ")}.`;
  }
  showChosen();
}

/** Return the values of a field that a model can carry out. */
function schemaOf(model, name) {
  const schema = { ...studio.fields[name], ...model?.limits?.[name] };
  return name === "format" && model?.formats ? { ...schema, enum: model.formats, default: model.formats[0] } : schema;
}

/** Folded options are easily forgotten: say how many are chosen. */
function showChosen() {
  const count = Object.keys(chosenOptions()).length;
  at("chosen").textContent = count ? `(${count} chosen)` : "";
}

/** Return the options that are chosen, as the contract types them. */
function chosenOptions() {
  const chosen = {};
  const model = modelNamed(at("model").value);
  for (const name of optionNames().filter((each) => takes(model, each))) {
    const { type, default: usual } = schemaOf(model, name);
    const text = at(`option-${name}`).value.trim();
    if (text && text !== usual) chosen[name] = type === "string" ? text : Number(text);
  }
  return chosen;
}

function readForm() {
  const request = { prompt: at("prompt").value.trim().replace(/\s+/g, " "), ...chosenOptions() };
  if (studio.models.length > 1) request.model = at("model").value;
  return request;
}

function fillForm({ prompt, model, ...options }) {
  at("prompt").value = prompt;
  if (modelNamed(model)) at("model").value = modelNamed(model).name;
  for (const name of optionNames()) {
    at(`option-${name}`).value = options[name] ?? studio.fields[name].default ?? "";
  }
  forgive();
  showModel();
}
