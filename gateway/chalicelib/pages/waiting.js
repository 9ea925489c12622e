"use strict";
const at = (id) => document.getElementById(id);
const { job, waited } = document.querySelector("main").dataset;
const began = performance.now() - Number(waited) * 1000;
// Whoever was given this URL has no key: its link gives access to the job, too.
const link = new URLSearchParams(location.search).get("link");
const access = link ? "?link=" + encodeURIComponent(link) : "";
const url = "jobs/" + job;
const ticking = setInterval(() => {
  at("elapsed").textContent = Math.round((performance.now() - began) / 1000);
}, 1000);

function end(said) {
  clearInterval(ticking);
  at("wash").hidden = true;
  at("state").textContent = said;
}

async function check() {
  const response = await fetch(url + access, { headers: { Accept: "application/json" } });
  const described = await response.json();
  if (described.state === "done") {
    at("picture").src = url + "/image" + access;
    await at("picture").decode();
    at("frame").style.setProperty("--shape", at("picture").naturalWidth + " / " + at("picture").naturalHeight);
    at("clock").hidden = true;
    at("picture").hidden = false;
    const { seed } = described.request;
    end(seed === undefined ? "Painted." : "Painted with seed " + seed + ".");
  } else if (described.error) {
    end(described.error.message);
  } else {
    setTimeout(watch, 1000 * (Number(response.headers.get("Retry-After")) || 2));
  }
}

// A broken connection is not a response: check again.
function watch() {
  check().catch(() => setTimeout(watch, 5000));
}

watch();
