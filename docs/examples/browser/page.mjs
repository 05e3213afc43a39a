import { load } from "./label.mjs";

const answers = document.querySelector("#answers");
const input = document.querySelector("#pictures");
const state = document.querySelector("#state");

function say(text, wrong = false) {
  state.textContent = text;
  state.classList.toggle("wrong", wrong);
}

function lineOf(picture) {
  const line = document.createElement("li");
  line.textContent = `${picture.name}: `;
  answers.append(line);
  return line;
}

async function start() {
  const label = await load();
  let newest = null;
  input.addEventListener("change", async () => {
    const pictures = (newest = [...input.files]);
    answers.replaceChildren();
    say("Labelling…");
    for (const picture of pictures) {
      const found = await label(picture).catch((error) => ({ error }));
      if (pictures !== newest) return; // others were chosen meanwhile
      const line = lineOf(picture);
      line.classList.toggle("wrong", "error" in found);
      line.append(found.error?.message ?? `${found.label} (${found.probability.toFixed(3)})`);
      if (found.embedding) line.dataset.embedding = JSON.stringify(found.embedding);
    }
    say(`Done: ${pictures.length} ${pictures.length === 1 ? "picture" : "pictures"}.`);
  });
  input.disabled = false;
  say("Ready.");
  document.body.dataset.ready = "yes";
}

await start().catch((error) => {
  say(`This page cannot label pictures: ${error.message}`, true);
  throw error;
});
