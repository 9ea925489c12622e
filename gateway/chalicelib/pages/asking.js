// --- Asking the gateway, and what it says when that fails ----------------------------------------

const POLL_SECONDS = 5; // seconds after a connection broke

/** Why there is no picture, in words for a person. */
class Problem extends Error {
  constructor(message, { status = 0, field = "", wait = null, place = null } = {}) {
    super(message);
    Object.assign(this, { status, field, wait, place });
  }
}

// The messages for responses of API Gateway itself.
const WORDS = {
  401: "An API key is required.",
  403: "That is not allowed here.",
  404: "There is no such address here.",
  413: "That is too long to be sent.",
  414: "That is too long for an address. Fewer words would do.",
  429: "Too many asked at once.",
  502: "The easel could not do it.",
  503: "The easel is busy.",
  504: "The easel took too long.",
};

/** Fetch, and throw a Problem for whatever is no success. */
async function ask(address, init) {
  let response;
  try {
    response = await fetch(address, init);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const reason = navigator.onLine ? "The easel cannot be reached." : "This device is offline.";
    throw new Problem(reason, { wait: POLL_SECONDS });
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function problemOf(response) {
  const described = (await response.json().catch(() => ({})))?.error ?? {};
  const wait = Number(response.headers.get("Retry-After")) || described.retry_after || null;
  const message = described.message ?? WORDS[response.status] ?? `The easel responded with status ${response.status}.`;
  const place = response.headers.get("Location");
  return new Problem(message, { status: response.status, field: described.field ?? "", wait, place });
}
