// Label PNG pictures with a release and a head: node label.mjs [--json] RELEASE HEAD.json PICTURE.png...
//
// One line a picture: file, label, probability. With --json each line is an object that holds the embedding too.
// A picture that cannot be read is named on stderr, the others are labelled, and the exit code is 1.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import ort from "onnxruntime-node";
import { applyHead, checkHead } from "../head.mjs";
import { fit, toInput } from "../pictures.mjs";
import { decoded } from "./png.mjs";

// What a terminal would obey or show otherwise than it is: labels, names of files and messages are somebody else's.
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g;
const USAGE = "Usage: node label.mjs [--json] RELEASE HEAD.json PICTURE.png...";

/** What `doing` gives; what it throws is said of `name`, in one line. */
async function about(name, doing) {
  try {
    return await doing();
  } catch (error) {
    throw new Error(`${name}: ${error.message}`, { cause: error });
  }
}

/** One line without control characters. */
const plain = (text) => text.replace(CONTROL, "\ufffd");

const json = (path) => about(path, async () => JSON.parse(await readFile(path, "utf8")));

/** Give a function from a PNG file to its label, probability and embedding. */
async function load(release, headFile) {
  const head = await json(headFile);
  const manifest = await json(join(release, "manifest.json"));
  await about(headFile, () => checkHead(head, manifest));
  const { channels, height, width } = head.preprocessing;
  const model = join(release, "model.onnx");
  // Fatal ones alone: what else onnxruntime writes to the terminal has names out of the file in it.
  const session = await about(model, () => ort.InferenceSession.create(model, { logSeverityLevel: 4 }));
  return async (picture) => {
    const pixels = fit(decoded(await readFile(picture)), head.preprocessing);
    const input = new ort.Tensor("float32", toInput(pixels, head.preprocessing), [1, channels, height, width]);
    const { embedding } = await session.run({ pixels: input });
    return { ...applyHead(head, embedding.data), embedding: [...embedding.data] };
  };
}

async function main(words) {
  const asJson = words[0] === "--json";
  const [release, headFile, ...pictures] = asJson ? words.slice(1) : words;
  if (pictures.length === 0) throw new Error(USAGE);
  const label = await load(release, headFile);
  for (const picture of pictures) {
    try {
      const found = await about(picture, () => label(picture));
      if (asJson) console.log(JSON.stringify({ picture, ...found }));
      else console.log(`${plain(picture)}\t${plain(found.label)}\t${found.probability.toFixed(3)}`);
    } catch (error) {
      complain(error);
    }
  }
}

function complain(error) {
  console.error(plain(error.message));
  process.exitCode = 1;
}

await main(process.argv.slice(2)).catch(complain);
