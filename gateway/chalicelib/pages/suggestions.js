// --- Suggestions while typing, for a model that knows only certain words ------------------------

const MOST_SUGGESTED = 6;
let suggested = { typed: "", names: [] };

/** Tell assistive technology whether there can be suggestions. */
function prepareSuggestions() {
  hideSuggestions();
  for (const [name, value] of [["aria-autocomplete", "list"], ["aria-controls", "suggestions"]]) {
    if (lexiconOf(modelNamed(at("model").value))) at("prompt").setAttribute(name, value);
    else at("prompt").removeAttribute(name);
  }
}

/** Return the names that begin with the last words before the cursor, and these words. */
function suggestionsFor({ value, selectionStart, selectionEnd }, lexicon) {
  const { names } = lexicon;
  const within = selectionStart !== selectionEnd || /^[\p{L}\p{N}]/u.test(value.slice(selectionStart));
  // Whoever has typed a word that is known does not need another.
  const isKnown = !unknownWords(value, lexicon).includes(tokensOf(value.slice(0, selectionStart)).at(-1));
  const words = within || isKnown ? [] : value.slice(0, selectionStart).match(/[\p{L}\p{N}'’-]+( [\p{L}\p{N}'’-]+)*$/u)?.[0].split(" ") ?? [];
  for (let count = Math.min(words.length, 4); count; count -= 1) {
    const typed = words.slice(-count).join(" ");
    const begun = typed.length < 2 ? [] : names.map(({ text }) => text)
      .filter((text) => text.toLowerCase().startsWith(typed.toLowerCase()) && text.length > typed.length);
    if (begun.length) return { typed, names: begun.slice(0, MOST_SUGGESTED) };
  }
  return { typed: "", names: [] };
}

function showSuggestions() {
  const lexicon = lexiconOf(modelNamed(at("model").value));
  if (!lexicon) return;
  const wasOpen = suggested.names.length > 0;
  suggested = suggestionsFor(at("prompt"), lexicon);
  at("suggestions").replaceChildren(...suggested.names.map((name, index) => {
    const option = document.createElement("li");
    Object.assign(option, { id: `suggestion-${index}`, role: "option", textContent: name });
    option.setAttribute("aria-selected", false);
    option.addEventListener("click", () => accept(name));
    return option;
  }));
  at("suggestions").hidden = !suggested.names.length;
  at("prompt").removeAttribute("aria-activedescendant");
  if (!wasOpen && suggested.names.length) say("There are suggestions: the down arrow leads to them.");
}

function hideSuggestions() {
  suggested = { typed: "", names: [] };
  at("suggestions").hidden = true;
  at("suggestions").replaceChildren();
  at("prompt").removeAttribute("aria-activedescendant");
}

const activeSuggestion = () => at("suggestions").querySelector("[aria-selected=true]");

/** Make another suggestion the active one; before the first and after the last there is none. */
function stepThrough(step) {
  const options = [...at("suggestions").children];
  const here = options.indexOf(activeSuggestion());
  const there = options[here < 0 && step < 0 ? options.length - 1 : here + step];
  for (const option of options) option.setAttribute("aria-selected", option === there);
  if (there) at("prompt").setAttribute("aria-activedescendant", there.id);
  else at("prompt").removeAttribute("aria-activedescendant");
}

function accept(name) {
  const { selectionStart: end } = at("prompt");
  at("prompt").setRangeText(name, end - suggested.typed.length, end, "end");
  hideSuggestions();
}

at("prompt").addEventListener("input", (event) => { if (!event.isComposing) showSuggestions(); });
at("prompt").addEventListener("blur", hideSuggestions);
// A press would take the focus from the prompt, and with it the list.
at("suggestions").addEventListener("mousedown", (event) => event.preventDefault());

at("prompt").addEventListener("keydown", (event) => {
  if (!suggested.names.length || event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
  const active = activeSuggestion();
  const plain = !event.shiftKey;
  if (event.key === "ArrowDown" && plain) stepThrough(1);
  else if (event.key === "ArrowUp" && plain) stepThrough(-1);
  else if (event.key === "Escape") hideSuggestions();
  else if ((event.key === "Enter" || event.key === "Tab") && plain && active) accept(active.textContent);
  else {
    if (event.key === "Enter") hideSuggestions();
    return;
  }
  event.preventDefault();
  event.stopImmediatePropagation();
});
