"use strict";
const at = (id) => document.getElementById(id);

function complain(message) {
  at("wrong").textContent = message;
  at("wrong").hidden = false;
  at("key").select();
}

at("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  const headers = { "Content-Type": "application/json", Accept: "application/json" };
  const body = JSON.stringify({ key: at("key").value });
  try {
    const response = await fetch("session", { method: "POST", headers, body });
    if (!response.ok) {
      const described = await response.json().catch(() => ({}));
      return complain(described.error?.message ?? "That did not work. Try again.");
    }
  } catch {
    return complain("The easel cannot be reached.");
  }
  try {
    localStorage.setItem("easel-signed-in", "yes");
  } catch {
    // Refused in some private windows; the home page then says "Sign in" once more.
  }
  // Back to the address that was asked for. A link in it would take precedence over the session.
  const address = new URL(location.href);
  if (address.searchParams.has("link")) address.searchParams.delete("link");
  address.hash = "";
  location.replace(address.href);
});
