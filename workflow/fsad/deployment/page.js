
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const [slider, number, summary, images] =
  ["slider", "number", "summary", "images"].map(id => document.getElementById(id));
const scored = data.rows.filter(row => row.score !== null);
const compared = scored.map(row => row[data.value]);
const start = data.start ?? (scored.length ? Math.max(...compared) : 0);
let threshold = start;

function element(parent, tag, properties) {
  const made = Object.assign(document.createElement(tag), properties);
  parent.append(made);
  return made;
}

function short(value) {
  return value.toPrecision(4);
}

// The shortest decimal number of a float32, as in scores.csv.
function float32(value) {
  const wanted = Math.fround(value);
  for (let digits = 1; digits < 17; digits++) {
    const decimal = Number(wanted.toPrecision(digits));
    if (Math.fround(decimal) === wanted) return decimal;
  }
  return wanted;
}

function isAnomalous(row) {
  return row[data.value] > threshold;
}

function addCard(row) {
  const card = element(images, "li", {});
  const button = element(card, "button", {type: "button"});
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => {
    const pressed = button.getAttribute("aria-pressed") === "true";
    button.setAttribute("aria-pressed", String(!pressed));
  });
  const [picture, overlay] = row.pictures;
  if (picture) {
    const lazy = {loading: "lazy", decoding: "async"};
    element(button, "img", {...lazy, alt: row.image, src: picture});
    const alt = `Anomaly map of ${row.image}`;
    element(button, "img", {...lazy, alt, src: overlay, className: "overlay"});
  } else {
    button.textContent = "no picture";
    button.disabled = true;
  }
  const text = element(card, "div", {className: "text"});
  element(text, "bdi", {textContent: row.image});
  element(text, "span", {textContent: row.class});
  const ratio = data.value === "score" ? "" : `, ${short(row.normalised)} × threshold`;
  element(text, "span", {textContent: `score ${short(row.score)}${ratio}`});
  row.decision = element(text, "span", {className: "decision"});
  row.card = card;
}

function decide() {
  const anomalous = scored.filter(isAnomalous).length;
  for (const row of scored) {
    row.card.classList.toggle("anomalous", isAnomalous(row));
    row.decision.textContent = isAnomalous(row) ? "anomalous" : "normal";
  }
  summary.textContent = `${anomalous} of ${scored.length} images are anomalous`;
}

function setThreshold(value) {
  threshold = value;
  slider.value = String(value);
  // A number that is being typed is left as it is.
  if (!number.value || Number(number.value) !== value) number.value = String(value);
  decide();
}

// Steps of the slider: between 100 and 1000, of a round number of decimals.
function setRange() {
  const [low, high] = [Math.min(...compared, start), Math.max(...compared, start)];
  const digits = 2 - Math.floor(Math.log10(high - low || Math.abs(high) || 1));
  const step = 10 ** -digits;
  const decimals = Math.min(Math.max(digits, 0), 100);
  slider.step = step.toFixed(decimals);
  slider.min = ((Math.floor(low / step) - 1) * step).toFixed(decimals);
  slider.max = ((Math.floor(high / step) + 1) * step).toFixed(decimals);
}

function listFailed() {
  const failed = data.rows.filter(row => row.error !== "");
  const details = document.getElementById("failed");
  details.hidden = failed.length === 0;
  details.querySelector("summary").textContent =
    `${failed.length} of ${data.rows.length} images with errors`;
  for (const row of failed) {
    const item = element(details.querySelector("ul"), "li", {});
    element(item, "bdi", {textContent: row.image});
    item.append(`: ${row.error}`);
  }
}

function fields(row) {
  if (row.score === null) return [row.image, row.class, "", "", "", "", row.error];
  const own = data.value === "score" ? threshold : row.threshold * threshold;
  const normalised = own > 0 ? float32(Math.fround(row.score) / Math.fround(own)) : "";
  const decision = Number(isAnomalous(row));
  return [row.image, row.class, row.score, float32(own), normalised, decision, row.error];
}

function quoted(field) {
  const text = String(field);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function download() {
  const head = ["image", "class", "score", "threshold", "normalised", "anomalous", "error"];
  const lines = [head, ...data.rows.map(fields)].map(row => row.map(quoted).join(","));
  const blob = new Blob([lines.join("\n") + "\n"], {type: "text/csv"});
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = "scores.csv";
  link.click();
}

function explain() {
  let [of, note] = ["of the score", "The slider starts at the threshold of scores.csv."];
  if (data.value === "normalised") {
    of = "as a multiple of the class's own";
    note = "The slider starts at 1, the thresholds of scores.csv.";
  } else if (data.start === null) {
    note = "Images without a threshold: the slider starts at the highest score.";
  }
  document.getElementById("value").textContent = of;
  document.getElementById("note").textContent = `An image above it is anomalous. ${note}`;
}

[...scored].sort((a, b) => b[data.value] - a[data.value]).forEach(addCard);
setRange();
explain();
listFailed();
setThreshold(start);
slider.addEventListener("input", () => setThreshold(Number(slider.value)));
number.addEventListener("input", () => {
  if (number.value !== "") setThreshold(Number(number.value));
});
document.getElementById("reset").addEventListener("click", () => setThreshold(start));
document.getElementById("filter").addEventListener("change", event => {
  images.dataset.filter = event.target.value;
});
document.getElementById("download").addEventListener("click", download);
