// Label PNG pictures with a release and a head: node label.mjs [--json] RELEASE HEAD.json PICTURE.png...
//
// One line a picture: file, label, probability. With --json each line is an object that holds the embedding too.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import ort from "onnxruntime-node";
import { PNG } from "pngjs";
import { applyHead, checkHead } from "../head.mjs";
import { fit, toInput } from "../pictures.mjs";

const words = process.argv.slice(2);
const asJson = words[0] === "--json";
const [release, headFile, ...pictures] = asJson ? words.slice(1) : words;
if (pictures.length === 0) throw new Error("node label.mjs [--json] RELEASE HEAD.json PICTURE.png...");

const head = JSON.parse(await readFile(headFile, "utf8"));
checkHead(head, JSON.parse(await readFile(join(release, "manifest.json"), "utf8")));
const { channels, height, width } = head.preprocessing;
const session = await ort.InferenceSession.create(join(release, "model.onnx"));

for (const picture of pictures) {
  const pixels = fit(PNG.sync.read(await readFile(picture)), head.preprocessing);
  const input = new ort.Tensor("float32", toInput(pixels, head.preprocessing), [1, channels, height, width]);
  const { embedding } = await session.run({ pixels: input });
  const { label, probability } = applyHead(head, embedding.data);
  if (asJson) console.log(JSON.stringify({ picture, label, probability, embedding: [...embedding.data] }));
  else console.log(`${picture}\t${label}\t${probability.toFixed(3)}`);
}
