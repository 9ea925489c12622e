// --- What a person does, and what follows -------------------------------------------------------

const SIGNED_IN = "easel-signed-in"; // the cookie itself is out of a script's reach

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  forgive();
  const request = readForm();
  // The browser counts spaces as text; without any, the address is that of a random sentence.
  if (!request.prompt) return accuse({ field: "prompt", message: "Describe a picture first." });
  paint(request);
});

at("prompt").addEventListener("keydown", (event) => {
  // While an input method composes, Enter chooses a character.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  at("ask").requestSubmit();
});

at("surprise").addEventListener("click", async () => {
  forgive();
  try {
    const model = at("model").value; // its own words, if it knows only certain ones
    const address = model ? `sentence?model=${encodeURIComponent(model)}` : "sentence";
    at("prompt").value = (await (await ask(address)).json()).sentence;
    at("prompt").focus();
    say(at("prompt").value);
  } catch (error) {
    complain("prompt-wrong", error.message);
  }
});

showIdeas(USUAL_IDEAS);

at("model").addEventListener("change", showModel);
at("options").addEventListener("input", showChosen);
// A field that the browser finds wrong cannot be shown while it is folded away.
at("options").addEventListener("invalid", () => { at("options").open = true; }, true);
at("reset").addEventListener("click", () => fillForm({ prompt: at("prompt").value, model: at("model").value }));

at("cancel").addEventListener("click", () => cancel(staged));
at("retry").addEventListener("click", () => run(staged));
at("remove").addEventListener("click", async () => {
  await remove(staged);
  say("Removed.");
});
at("again").addEventListener("click", () => paint({ ...staged.request, seed: anySeed() }));
at("vary").addEventListener("click", () => paint({ ...staged.request, seed: (staged.request.seed + 1) % 2 ** 32 }));
at("edit").addEventListener("click", () => {
  fillForm(staged.request);
  at("prompt").focus();
});
at("copy-link").addEventListener("click", (event) => copy(linkOf(staged.request), event.target));
at("copy-curl").addEventListener("click", (event) => copy(curlOf(staged.request), event.target));

at("remove-all").addEventListener("click", () => at("sweep").showModal());
at("sweep-yes").addEventListener("click", async () => {
  await Promise.all(works.filter(({ state }) => state !== "painting").map(remove));
  at("sweep").close();
  say("All pictures are removed.");
});

for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}

// --- Keys ---------------------------------------------------------------------------------------

document.addEventListener("keydown", (event) => {
  const { target, key } = event;
  if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (key === "/" && !target.closest("input, textarea, select")) {
    event.preventDefault();
    at("prompt").focus();
  } else if (key === "Escape" && staged?.state === "painting" && !target.closest("select")) {
    cancel(staged);
  }
});

at("cards").addEventListener("keydown", (event) => {
  const steps = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity };
  if (!(event.key in steps)) return;
  event.preventDefault();
  const cards = [...at("cards").querySelectorAll(".open")];
  const here = cards.indexOf(event.target.closest(".card").querySelector(".open"));
  cards[Math.max(0, Math.min(cards.length - 1, here + steps[event.key]))].focus();
});

// --- Signing in ---------------------------------------------------------------------------------

function signIn() {
  remember(false);
  if (!at("sign-in").open) at("sign-in").showModal();
}

function remember(signed) {
  try {
    localStorage.setItem(SIGNED_IN, signed ? "yes" : "");
  } catch {
    // Refused in some private windows; then the button says "Sign in" once more after a reload.
  }
  showSign(signed);
}

function isSignedIn() {
  try {
    return localStorage.getItem(SIGNED_IN) === "yes";
  } catch {
    return false;
  }
}

function showSign(signed) {
  at("sign").hidden = studio.access !== "key";
  at("sign").textContent = signed ? "Sign out" : "Sign in";
  at("teach").hidden = !studio.training || (studio.access === "key" && !signed);
  at("usage").hidden = !studio.usage || studio.access !== "key" || !signed;
  warnOfCap();
}

/** From 80 % of the monthly cap on, say so to the owner; the page of usage always does. */
async function warnOfCap() {
  showMonth(null);
  if (at("usage").hidden) return;
  try {
    const { month } = await (await ask("usage?days=1", { headers: { Accept: "application/json" } })).json();
    if (!at("usage").hidden && month && month.state !== "under") showMonth(month);
  } catch (error) {
    // Nothing here depends on it.
    if (!(error instanceof Problem)) throw error;
  }
}

at("sign").addEventListener("click", async () => {
  if (!isSignedIn()) return signIn();
  await session(null);
  remember(false);
  say("Signed out.");
});

at("sign-in-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await session(at("key").value);
  } catch (error) {
    complain("key-wrong", error.message);
    at("key").select();
    return;
  }
  complain("key-wrong");
  at("key").value = "";
  at("sign-in").close();
  remember(true);
  for (const work of works.filter(({ problem, state }) => state === "failed" && problem.status === 401)) run(work);
});

// --- The start ----------------------------------------------------------------------------------

/** Fill the form with a prompt, a model and an adapter that the page's address names. */
function fillFromAddress() {
  const { prompt, model, lora = "" } = Object.fromEntries(new URLSearchParams(location.search));
  if (prompt && !at("prompt").value) fillForm({ prompt, model, lora });
}

async function start() {
  at("surprise").hidden = at("stage").hidden = false;
  restore();
  for (;;) {
    try {
      await loadOptions();
      break;
    } catch (error) {
      // Prompts can be painted without them.
      complain("options-wrong", `The options are not there yet. ${error.message}`);
      await new Promise((resolve) => { setTimeout(resolve, 1000 * (error.wait ?? 10)); });
    }
  }
  complain("options-wrong");
  fillFromAddress();
  showPrices();
  if (staged) showUnknown(staged);
  showSign(isSignedIn());
}

start();
