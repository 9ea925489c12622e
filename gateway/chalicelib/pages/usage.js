// --- What was used: totals, a chart by day, budgets, and tables -----------------------------------

const WIDE = 1000, HIGH = 130, TOP = 18; // of the chart, in its own units
const GAP = 0.2, WIDEST = 40; // between two bars, as a share of their distance, and of a bar
const SVG = "http://www.w3.org/2000/svg";

const counted = (number, word) => `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;

function element(name, fields = {}, ...children) {
  const made = Object.assign(document.createElement(name), fields);
  made.append(...children);
  return made;
}

function drawn(name, fields) {
  const made = document.createElementNS(SVG, name);
  for (const [field, value] of Object.entries(fields)) made.setAttribute(field, value);
  return made;
}

async function load() {
  const days = at("days").value;
  complain("trouble");
  try {
    const response = await ask(`usage?days=${days}`, { headers: { Accept: "application/json" } });
    show(await response.json());
    at("csv").href = `usage?format=csv&days=${days}`;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    complain("trouble", error.message);
  }
}

function show(used) {
  at("used").hidden = false;
  at("title").textContent = used.owner ? "Usage of all keys" : "Usage of your key";
  at("total").textContent = `${dollars(used.usd)} for ${counted(used.pictures, "picture")} and ${duration(used.gpu_seconds)} of GPU time`;
  showMonth(used.month);
  at("span").textContent = `By day, from ${used.from} to ${used.to} (UTC)`;
  showChart(used.days);
  at("budgets").replaceChildren(...used.budgets.map(budgetOf));
  const tables = [["Key", "key", used.keys], ["Model", "model", used.models], ["Link", "link", used.links]];
  at("tables").replaceChildren(...tables.filter(([, name, rows]) => rows.length > (name === "key" && !used.owner ? 1 : 0)).map((table) => tableOf(...table)));
}

function showChart(days) {
  const most = Math.max(...days.map(({ usd }) => usd));
  const step = WIDE / days.length;
  const bars = days.map(({ day, usd, pictures }, number) => {
    const height = most ? (usd / most) * HIGH : 0;
    const width = Math.min(step * (1 - GAP), WIDEST);
    const bar = drawn("rect", { x: (number + 0.5) * step - width / 2, y: TOP + HIGH - height, width, height });
    const title = drawn("title", {});
    title.textContent = `${day}: ${dollars(usd)}, ${counted(pictures, "picture")}`;
    bar.append(title);
    return bar;
  });
  const top = drawn("text", { x: 0, y: 10 });
  top.textContent = most ? `${dollars(most)} on the dearest day` : "Nothing was used.";
  at("chart").replaceChildren(top, drawn("line", { class: "base", x1: 0, x2: WIDE, y1: TOP + HIGH, y2: TOP + HIGH }), ...bars);
}

function budgetOf({ key, usd_per_month: most, spent_usd: spent }) {
  const text = `Budget of ${key}: ${dollars(spent)} of ${dollars(most)} this month`;
  return element("label", {}, text, element("progress", { max: most, value: spent }));
}

function tableOf(title, name, rows) {
  const head = [title, "Pictures", "GPU time", "Dollars"].map((text) => element("th", { scope: "col", textContent: text }));
  const body = rows.map((row) => element("tr", {},
    element("th", { scope: "row", textContent: row[name] || "without" }),
    ...[row.pictures.toLocaleString("en"), duration(row.gpu_seconds), dollars(row.usd)].map((text) => element("td", { textContent: text }))));
  return element("table", {}, element("caption", { textContent: `By ${name}` }), element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body));
}

at("days").addEventListener("change", load);
load();
