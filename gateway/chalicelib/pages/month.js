// --- What the month has cost, in words for the owner ----------------------------------------------

/** Return dollars with as many digits as matter: $12.30, $0.0042. */
const dollars = (usd) => `$${usd.toFixed(usd >= 0.1 || usd === 0 ? 2 : 4)}`;

/** Show what GPUs have cost this month, and how near that is to the cap; nothing without a month. */
function showMonth(month) {
  at("month").hidden = !month;
  if (!month) return;
  const cap = month.cap_usd ? ` of the monthly cap of ${dollars(month.cap_usd)}` : "";
  const ends = { under: "", warned: " At the cap, all endpoints are deleted, and these jobs stopped.", reached: " The cap is reached: all endpoints are deleted, these jobs are stopped, and nothing new is generated." };
  at("month").textContent = `${month.month}: ${dollars(month.usd)}${cap}, endpoints, batch and compile jobs by the hour.${ends[month.state]}`;
  at("month").classList.toggle("wrong", month.state !== "under");
}
