// --- What the chosen model says about itself, and words that it does not know -------------------

// Words that any vocabulary may leave out.
const FILLERS = "a an the of and or in on at with by to for from my your some is are it";
const NAMED = ["things", "characters", "colours", "backgrounds"];

const tokensOf = (text) => text.toLowerCase().match(/[\p{L}\p{M}\p{N}]+(?:['’][\p{L}\p{M}]+)*/gu) ?? [];
const bare = (name) => name.replace(/^(an?|the) /i, "");
const firstOf = (entry) => [entry].flat()[0];

/** Return a model's vocabulary in the form that look-ups need; null for a model without one. */
function lexiconOf(model) {
  if (!model?.vocabulary) return null;
  return model.lexicon ??= newLexicon(model.vocabulary);
}

function newLexicon(vocabulary) {
  const texts = (kind) => (vocabulary[kind] ?? []).flat().map(bare);
  const names = NAMED.flatMap(texts).map((text) => ({ text, tokens: tokensOf(text) }));
  return {
    names,
    phrases: new Set(names.map(({ tokens }) => tokens.join(" "))),
    longest: Math.max(...names.map(({ tokens }) => tokens.length)),
    words: new Set(tokensOf([FILLERS, ...texts("words"), ...texts("backgrounds")].join(" "))),
  };
}

/** Return the words of a prompt that a model does not know; longer names count before shorter. */
function unknownWords(prompt, { phrases, longest, words }) {
  const tokens = tokensOf(prompt.replace(/<[^>]*>|:\s*[\d.]+(?=\s*\))/g, " ")); // without <lora:...> and weights
  const unknown = new Set();
  for (let start = 0; start < tokens.length;) {
    let count = Math.min(longest, tokens.length - start);
    while (count && !phrases.has(tokens.slice(start, start + count).join(" "))) count -= 1;
    if (!count && !words.has(tokens[start])) unknown.add(tokens[start]);
    start += count || 1;
  }
  return [...unknown];
}

/** Return the name that is most like a word; null if none is. */
function nearestName(word, { names }) {
  let nearest = null;
  let least = Math.max(1, Math.floor((word.length - 1) / 3)) + 0.4; // a third of the letters may differ
  for (const { text, tokens } of names) {
    for (const token of tokens) {
      // A name of one word is nearer than a part of a longer name.
      const difference = differenceOf(word, token) + 0.3 * (tokens.length - 1);
      if (difference < least) [nearest, least] = [text, difference];
    }
  }
  return nearest;
}

/** Return how much two words differ: 0 for singular and plural, then compounds, then by letters. */
function differenceOf(word, token) {
  if (singulars(word).some((each) => singulars(token).includes(each))) return 0;
  const [short, long] = [word, token].sort((a, b) => a.length - b.length);
  const rest = long.length - short.length;
  if (short.length > 3 && long.endsWith(short) && rest > 1 && (long === word || rest < 5)) return 0.5; // lighthouse, house
  if (short.length > 3 && long.startsWith(short) && rest > 1) return 0.7;
  // A slip of the finger rarely changes the first letter, and in short words it makes another word.
  return short.length > 3 && rest < 3 && word[0] === token[0] ? editDistance(word, token) : Infinity;
}

function singulars(word) {
  const endings = [[/'s$|’s$|s$/, ""], [/es$/, ""], [/ies$/, "y"], [/ves$/, "f"], [/ves$/, "fe"]];
  return [word, ...endings.filter(([ending]) => ending.test(word)).map(([ending, other]) => word.replace(ending, other))];
}

/** Return how many letters to insert, remove, replace or swap with the next (optimal string alignment). */
function editDistance(a, b) {
  let before = [];
  let last = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row += 1) {
    const line = [row];
    for (let column = 1; column <= b.length; column += 1) {
      const differs = a[row - 1] === b[column - 1] ? 0 : 1;
      line[column] = Math.min(last[column] + 1, line[column - 1] + 1, last[column - 1] + differs);
      const swapped = row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1];
      if (swapped) line[column] = Math.min(line[column], before[column - 2] + 1);
    }
    [before, last] = [last, line];
  }
  return last[b.length];
}

const unknownIn = (work) => {
  const lexicon = lexiconOf(modelNamed(work.model || work.request.model));
  return lexicon ? unknownWords(work.request.prompt.replace(/<(lora|lyco):[^<>]*>/gi, ""), lexicon).slice(0, 8) : [];
};

/** Point out, below a picture, the words that its model does not know. */
function showUnknown(work) {
  const unknown = work.state === "done" ? unknownIn(work) : [];
  at("unknown").hidden = !unknown.length;
  if (!unknown.length) return;
  const lexicon = lexiconOf(modelNamed(work.model || work.request.model));
  const pairs = unknown.map((word) => [word, nearestName(word, lexicon)]).filter(([, name]) => name);
  const buttons = pairs.map(([word, name]) => {
    const button = buttonOf(name, () => correct(work.request, word, name));
    button.title = `${name} instead of ${word}`;
    return button;
  });
  const words = unknown.map((word) => `“${word}”`).join(", ").replace(/, (?=[^,]*$)/, " and ");
  const nearest = pairs.length ? " The nearest that it knows:" : " “What it can draw” lists the words that it knows.";
  at("unknown").replaceChildren(`This model does not know ${words}.${nearest}`, ...buttons);
}

/** Write a name instead of a word into the prompt: the one in the form, if it still has the word. */
function correct(request, word, name) {
  const typed = at("prompt").value;
  if (tokensOf(typed).includes(word)) at("prompt").value = replaced(typed, word, name);
  else fillForm({ ...request, prompt: replaced(request.prompt, word, name) });
}

/** Return a prompt with a name instead of a word; an article before it fits the name. */
function replaced(prompt, word, name) {
  const letters = "[\\p{L}\\p{M}\\p{N}]";
  const place = new RegExp(`(?<!${letters})(?:(an?)(\\s+))?${word}(?!${letters})`, "giu");
  const fitting = /^[aeiou]/i.test(name) ? "an" : "a";
  return prompt.replace(place, (_, article, space) => (article ? fitting + space : "") + name);
}

/** Show what the chosen model says about itself; nothing of a model that says nothing. */
function showDescription() {
  const { about = "", examples = [], vocabulary } = modelNamed(at("model").value) ?? {};
  at("about").hidden = !about && !vocabulary;
  at("about-text").hidden = !about;
  // What is between backticks is code.
  at("about-text").replaceChildren(...about.split("`").map((text, index) => (index % 2 ? codeOf(text) : text)));
  at("palette").hidden = !vocabulary;
  if (vocabulary) showPalette(vocabulary);
  if (examples.length) {
    at("prompt").placeholder = examples[0];
    showIdeas(examples.slice(0, 6));
  } else {
    at("prompt").placeholder = USUAL_PLACEHOLDER;
    showIdeas(USUAL_IDEAS);
  }
  prepareSuggestions();
}

function codeOf(text) {
  const code = document.createElement("code");
  code.textContent = text;
  return code;
}

const USUAL_PLACEHOLDER = at("prompt").placeholder;
const USUAL_IDEAS = [...at("ideas").querySelectorAll("button")].map((idea) => idea.textContent);

function showIdeas(prompts) {
  for (const idea of at("ideas").querySelectorAll("button")) idea.remove();
  at("ideas").append(...prompts.map((prompt) => buttonOf(prompt, () => { at("prompt").value = prompt; })));
}

/** Return a button that writes something into the prompt. */
function buttonOf(text, write) {
  const button = document.createElement("button");
  Object.assign(button, { type: "button", textContent: text });
  button.addEventListener("click", () => {
    write();
    at("prompt").focus();
  });
  return button;
}

function showPalette(vocabulary) {
  const [things, characters, colours, backgrounds] = NAMED.map((kind) => (vocabulary[kind] ?? []).map(firstOf));
  const all = [...things, ...characters].map(bare).sort((a, b) => a.localeCompare(b));
  at("palette-count").textContent = `${all.length} ${all.length === 1 ? "thing" : "things"}`;
  at("things").textContent = all.join(", ");
  at("colours").replaceChildren(...colours.map((colour) => {
    const button = buttonOf(colour, () => write(colour));
    button.style.setProperty("--dot", CSS.supports("color", colour) ? colour : "transparent");
    return button;
  }));
  at("backgrounds").replaceChildren(...backgrounds.map((name) => buttonOf(name, () => write(name))));
  for (const kind of ["colours", "backgrounds"]) at(kind).parentElement.hidden = !at(kind).children.length;
}

/** Write words where the prompt's cursor is, with spaces around them. */
function write(words) {
  const { value, selectionStart: start, selectionEnd: end } = at("prompt");
  const before = start && !/\s$/.test(value.slice(0, start)) ? " " : "";
  const after = /^[^\s,.!?]/.test(value.slice(end)) ? " " : "";
  at("prompt").setRangeText(before + words + after, start, end, "end");
}
