// --- Small things that every part needs -------------------------------------------------------

const at = (id) => document.getElementById(id);

/** Announce to screen readers, politely. */
function say(text) {
  at("said").textContent = text;
}

/** Return seconds in a person's words: 0.8 s, 12 s, 3 min 20 s. */
function duration(seconds) {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  return whole < 100 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

/** Return a file's name that any system takes: the prompt's first words, and the seed, if it has one. */
function fileName(request) {
  const words = request.prompt.toLowerCase().match(/[\p{L}\p{M}\p{N}]+/gu) ?? ["picture"];
  const name = [...words.join("-")].slice(0, 60).join("");
  const seed = request.seed === undefined ? "" : `-${request.seed}`;
  return `${name}${seed}.${request.format ?? modelNamed(request.model)?.formats?.[0] ?? "png"}`;
}

/** Quote for a POSIX shell: inside single quotes everything is itself, but the quote. */
function shellQuoted(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

/** Show a message under a field, or take it away. */
function complain(id, message = "") {
  at(id).textContent = message;
  at(id).hidden = !message;
}

/** Wait, unless the signal ends it: then this throws the signal's AbortError. */
function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
  });
}

/** Copy, or show what there is to copy where the browser refuses. */
async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text); // is not there at all without HTTPS
  } catch {
    at("to-copy").value = text;
    at("by-hand").showModal();
    at("to-copy").select();
    return;
  }
  const label = button.textContent;
  button.textContent = "Copied";
  say("Copied.");
  setTimeout(() => { button.textContent = label; }, 1500);
}
