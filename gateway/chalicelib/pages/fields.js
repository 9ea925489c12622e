// --- Fields: a control for a JSON Schema, and what is wrong with it ------------------------------

const TITLES = { lora: "LoRA" };

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
    offer(select, schema);
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

/** Let a choice have the words that its field, or the model at hand, has; what is chosen stays if it can. */
function offer(select, schema) {
  const usual = schema.default ?? schema.enum[0];
  const kept = select.value !== select.dataset.usual && schema.enum.includes(select.value);
  const chosen = kept ? select.value : usual;
  select.replaceChildren(...schema.enum.map((each) => new Option(each, each, each === usual)));
  select.value = chosen;
  select.dataset.usual = usual;
}

/** Let a number or a choice be what its field, or the model at hand, allows. */
function limit(control, schema) {
  const { type, minimum, maximum, multipleOf } = schema;
  if (schema.enum) offer(control, schema);
  if (control.type !== "number") return;
  const step = type === "number" ? "any" : multipleOf ?? 1;
  Object.assign(control, { min: minimum ?? "", max: maximum ?? "", step });
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
