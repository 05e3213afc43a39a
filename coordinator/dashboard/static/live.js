// Parts of a page that arrive live. A part is an element with an id; the server sends the ones that changed.
const main = document.querySelector("main[data-live]");

// The first parts that arrive are mostly what the page has already.
function same(old, html) {
  const fresh = document.createElement("template");
  fresh.innerHTML = html;
  return fresh.innerHTML === old.innerHTML;
}

// A link without an id is the same one where it leads to the same place.
function again(part, element) {
  if (element.id) return document.getElementById(element.id);
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

// Copying a line: the button is there only where it can work.
for (const button of document.querySelectorAll("button[data-copy]")) {
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent.trim());
    button.textContent = "Copied";
  });
}

// A short digest copies whole at a click; in a link it leads on instead.
if (navigator.clipboard) {
  document.documentElement.classList.add("copies");
  document.addEventListener("click", async ({ target }) => {
    const short = target.closest?.("code[title]");
    if (!short || target.closest("a, button, summary, label")) return;
    await navigator.clipboard.writeText(short.title);
    short.classList.add("copied");
    setTimeout(() => short.classList.remove("copied"), 1500);
  });
}
