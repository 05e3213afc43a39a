// Parts of a page that arrive live. A part is an element with an id; the server sends the ones that changed.
const main = document.querySelector("main[data-live]");

// The first parts that arrive are mostly what the page has already.
function same(old, html) {
  const fresh = document.createElement("template");
  fresh.innerHTML = html;
  makeCopiable(fresh.content);
  return fresh.innerHTML === old.innerHTML;
}

// A link without an id is the same one where it leads to the same place, a digest where it is the same whole.
function again(part, element) {
  if (element.id) return document.getElementById(element.id);
  if (element.title) return part.querySelector(`code[title="${CSS.escape(element.title)}"]`);
  const to = element.getAttribute("href");
  return to ? part.querySelector(`a[href="${CSS.escape(to)}"]`) : null;
}

function put(id, html) {
  const old = document.getElementById(id);
  if (!old || same(old, html)) return;
  const open = [...old.querySelectorAll("details[open][id]")].map((d) => d.id);
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  const scrolled = [...old.querySelectorAll(".scroll")].map((region) => [region.scrollLeft, region.scrollTop]);
  old.innerHTML = html;
  makeCopiable(old);
  [...old.querySelectorAll(".scroll")].forEach((region, n) => region.scrollTo(...(scrolled[n] ?? [0, 0])));
  for (const each of open) document.getElementById(each)?.setAttribute("open", "");
  if (focused) again(old, focused)?.focus({ preventScroll: true });
  old.classList.remove("fresh");
  requestAnimationFrame(() => old.classList.add("fresh"));
}

if (main) {
  const source = new EventSource(main.dataset.live);
  const state = document.getElementById("live-state");
  const say = (text) => { if (state && state.textContent !== text) state.textContent = text; };
  source.addEventListener("parts", (event) => {
    for (const [id, html] of Object.entries(JSON.parse(event.data))) put(id, html);
    say("live");
  });
  source.addEventListener("open", () => say("live"));
  source.addEventListener("error", () => say(source.readyState === EventSource.CLOSED
    ? "not live any more: load the page again" : "not connected, trying again"));
  addEventListener("pagehide", () => source.close());
}

// Copying a line: the button is there only where it can work. A browser may still refuse, and then it says so.
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

for (const button of document.querySelectorAll("button[data-copy]")) {
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    const done = await copied(document.getElementById(button.dataset.copy).textContent.trim());
    button.textContent = done ? "Copied" : "Not copied: select it";
  });
}

// A short digest copies whole at a click, or at Enter or the space bar; in a link it leads on instead.
const inLink = "a, button, summary, label";

function makeCopiable(root) {
  if (!navigator.clipboard) return;
  for (const short of root.querySelectorAll("code[title]")) {
    if (short.closest(inLink)) continue;
    short.tabIndex = 0;
    short.setAttribute("role", "button");
  }
}

async function copyShort(event) {
  const short = event.target.closest?.("code[title]");
  if (!short || short.closest(inLink)) return;
  if (event.type === "keydown" && event.key !== "Enter" && event.key !== " ") return;
  event.preventDefault();
  const word = (await copied(short.title)) ? "copied" : "not-copied";
  short.classList.add(word);
  setTimeout(() => short.classList.remove(word), 1500);
}

if (navigator.clipboard) {
  document.documentElement.classList.add("copies");
  document.addEventListener("click", copyShort);
  document.addEventListener("keydown", copyShort);
}
makeCopiable(document);
