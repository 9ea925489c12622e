// --- The form: prompt, model, and the options that the gateway's contract offers ----------------

// The response of /api/options; every part of it can be missing.
const studio = { fields: {}, models: [], access: "open" };
const ELSEWHERE = ["prompt", "model"]; // fields that have a place of their own in the page
const TITLES = { lora: "LoRA" };

const modelNamed = (name) => studio.models.find((each) => each.name === name) ?? studio.models[0];

async function loadOptions() {
  const described = await (await ask("options", { headers: { Accept: "application/json" } })).json();
  studio.fields = described.fields?.properties ?? {};
  studio.models = described.models ?? [];
  studio.access = described.access ?? "open";
  at("model").replaceChildren(...studio.models.map(({ name }) => new Option(name, name)));
  at("models").hidden = studio.models.length < 2;
  at("fields").replaceChildren(...optionNames().map((name) => fieldOf(name, studio.fields[name])));
  at("options").hidden = !optionNames().length;
  showModel();
}

const optionNames = () => Object.keys(studio.fields).filter((name) => !ELSEWHERE.includes(name));

function fieldOf(name, schema) {
  const field = document.createElement("div");
  const label = document.createElement("label");
  const hint = document.createElement("p");
  const wrong = document.createElement("p");
  const control = controlOf(schema);
  // Words, and numbers as long as a seed, take the whole width.
  const long = schema.enum ? false : schema.type === "string" || schema.maximum > 99999;
  field.className = long ? "field long" : "field";
  label.textContent = TITLES[name] ?? name[0].toUpperCase() + name.slice(1).replaceAll("_", " ");
  label.htmlFor = control.id = `option-${name}`;
  control.name = name;
  control.setAttribute("aria-describedby", `hint-${name} ${name}-wrong`);
  hint.id = `hint-${name}`;
  hint.className = "hint";
  hint.textContent = schema.description ?? "";
  wrong.id = `${name}-wrong`;
  wrong.className = "wrong";
  wrong.hidden = true;
  field.append(label, control, hint, wrong);
  return field;
}

/** Return the control for a field's JSON Schema. */
function controlOf(schema) {
  if (schema.enum) {
    const select = document.createElement("select");
    select.append(...schema.enum.map((each) => new Option(each, each, each === schema.default)));
    select.value = schema.default ?? schema.enum[0];
    return select;
  }
  if (schema.type === "string") {
    const text = document.createElement(schema.maxLength > 200 ? "textarea" : "input");
    if (schema.maxLength) text.maxLength = schema.maxLength;
    text.rows = 2;
    return text;
  }
  const number = document.createElement("input");
  number.type = "number";
  return number;
}

/** Let a number be what its field, or the model at hand, allows. */
function limit(control, { type, minimum, maximum, multipleOf }) {
  if (control.type !== "number") return;
  const step = type === "number" ? "any" : multipleOf ?? 1;
  Object.assign(control, { min: minimum ?? "", max: maximum ?? "", step });
}

/** Show what the chosen model is, and what it would take. */
function showModel() {
  showDescription();
  showDefaults();
}

/** Show, where nothing is chosen, what the model at hand would take. */
function showDefaults() {
  const model = modelNamed(at("model").value);
  for (const name of optionNames()) {
    const schema = { ...studio.fields[name], ...model?.limits?.[name] };
    limit(at(`option-${name}`), schema);
    const fallback = model?.defaults?.[name] ?? schema.default ?? schema["x-unset"] ?? "";
    at(`option-${name}`).placeholder = fallback || (schema.examples ?? [])[0] || "";
  }
  if (at("hint-lora") && model?.loras?.length) {
    at("hint-lora").textContent = `${studio.fields.lora.description} This one has ${model.loras.join(", ")}.`;
  }
  showChosen();
}

/** Folded options are easily forgotten: say how many are chosen. */
function showChosen() {
  const count = Object.keys(chosenOptions()).length;
  at("chosen").textContent = count ? `(${count} chosen)` : "";
}

/** Return the options that are chosen, as the contract types them. */
function chosenOptions() {
  const chosen = {};
  for (const name of optionNames()) {
    const { type, default: usual } = studio.fields[name];
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

/** Mark the field that the gateway found wrong, and lead there. */
function accuse({ field, message }) {
  const control = at(`option-${field}`) ?? at(field);
  if (!control || !at(`${field}-wrong`)) return;
  if (at("options").contains(control)) at("options").open = true;
  control.setAttribute("aria-invalid", "true");
  complain(`${field}-wrong`, message);
  control.focus();
}

function forgive() {
  for (const control of at("ask").querySelectorAll("[aria-invalid]")) control.removeAttribute("aria-invalid");
  for (const wrong of at("ask").querySelectorAll(".wrong")) complain(wrong.id);
}
