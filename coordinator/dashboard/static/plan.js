// The plan's form: the dial and its number move together, and what the plan costs is checked again after a pause.
const form = document.getElementById("plan-form");
const check = document.getElementById("check");
const state = document.getElementById("check-state");
const dial = document.getElementById("dial");
const number = document.getElementById("f-privacy-target_epsilon");
const architecture = document.getElementById("f-extractor-architecture");
const PAUSE_MS = 400;
const least = Number(dial.dataset.least);
const ratio = Math.log(Number(dial.dataset.most) / least);

document.getElementById("dial-range").hidden = false;

function fromDial() {
  const epsilon = least * Math.exp((ratio * dial.value) / dial.max);
  number.value = String(Number(epsilon.toPrecision(2)));
  dial.setAttribute("aria-valuetext", `ε ${number.value}`);
}

function toDial() {
  const epsilon = Number(number.value);
  if (epsilon > 0) dial.value = Math.round((dial.max * Math.log(epsilon / least)) / ratio);
  dial.setAttribute("aria-valuetext", `ε ${number.value}`);
}

// Options of other architectures are out of the way; they keep what was typed.
function showArchitecture() {
  for (const each of form.querySelectorAll("[data-architecture]")) each.hidden = each.dataset.architecture !== architecture.value;
}

function put(html) {
  const found = new DOMParser().parseFromString(html, "text/html");
  const fresh = found.getElementById("check");
  if (!fresh) {
    state.textContent = found.querySelector(".problem")?.textContent.trim() ?? "Not checked. Load the page again.";
    return;
  }
  const unfolded = document.getElementById("in-terms")?.open;
  check.replaceChildren(...fresh.childNodes);
  if (unfolded) document.getElementById("in-terms")?.setAttribute("open", "");
  for (const each of form.querySelectorAll("[aria-invalid]")) each.removeAttribute("aria-invalid");
  for (const link of check.querySelectorAll("a[data-wrong]")) form.querySelector(link.getAttribute("href"))?.setAttribute("aria-invalid", "true");
  state.textContent = check.querySelector("[data-said]")?.dataset.said ?? "";
}

let timer = 0, busy = false, again = false;

// One check at a time: the coordinator finishes what it began, so the newest wish waits for it.
async function ask() {
  if (busy) { again = true; return; }
  busy = true;
  const say = (text) => () => { state.textContent = text; check.setAttribute("aria-busy", "true"); };
  const waiting = [
    setTimeout(say("Checking…"), 150),
    setTimeout(say("Checking… An extractor that is new here is built and timed once, which takes seconds."), 2000),
  ];
  try {
    const answer = await fetch("/plans/check", { method: "POST", body: new URLSearchParams(new FormData(form)), credentials: "same-origin" });
    put(await answer.text());
  } catch {
    state.textContent = "Not checked: the coordinator did not answer. Press Check to try again.";
  }
  waiting.forEach(clearTimeout);
  check.removeAttribute("aria-busy");
  busy = false;
  if (again) { again = false; ask(); }
}

function soon() { clearTimeout(timer); timer = setTimeout(ask, PAUSE_MS); }

dial.addEventListener("input", fromDial);
number.addEventListener("input", toDial);
architecture.addEventListener("change", showArchitecture);
form.addEventListener("input", soon);
form.addEventListener("submit", (event) => {
  if (event.submitter?.id !== "check-button") return;
  event.preventDefault();
  clearTimeout(timer);
  ask();
});
check.addEventListener("click", (event) => {
  const wanted = event.target.closest("a[href^='#']");
  const field = wanted && form.querySelector(wanted.getAttribute("href"));
  if (!field) return;
  event.preventDefault();
  document.getElementById("settings").open ||= document.getElementById("settings").contains(field);
  (field.matches("fieldset") ? field.querySelector("input") ?? field : field).focus();
});

toDial();
showArchitecture();
if (!check.querySelector(".problem")) ask();
