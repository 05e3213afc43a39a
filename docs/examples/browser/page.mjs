import { load } from "./label.mjs";

const label = await load();
const answers = document.querySelector("#answers");

document.querySelector("#pictures").addEventListener("change", async (event) => {
  answers.replaceChildren();
  for (const picture of event.target.files) {
    const found = await label(picture);
    const line = document.createElement("li");
    line.textContent = `${picture.name}: ${found.label} (${found.probability.toFixed(3)})`;
    line.dataset.embedding = JSON.stringify(found.embedding);
    answers.append(line);
  }
});
document.body.dataset.ready = "yes";
