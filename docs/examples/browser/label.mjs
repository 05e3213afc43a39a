// Label pictures in a browser with the release in release/ and the head in head.json, beside this file.

import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";
import { applyHead, checkHead } from "../head.mjs";
import { fit, toInput } from "../pictures.mjs";

// One thread: more need a page that is isolated from other origins (headers COOP and COEP).
ort.env.wasm.numThreads = 1;

const here = (name) => new URL(name, import.meta.url).href;
async function fetched(name) {
  const answer = await fetch(here(name));
  if (!answer.ok) throw new Error(`${name} is not there (${answer.status}). The README says what to copy where.`);
  return answer;
}

async function json(name) {
  return (await fetched(name)).json().catch(() => {
    throw new Error(`${name} is not whole: it cannot be read as JSON.`);
  });
}

/** Give a function from a picture (File or Blob) to its label, probability and embedding. */
export async function load() {
  const head = await json("head.json");
  checkHead(head, await json("release/manifest.json"));
  const { channels, height, width } = head.preprocessing;
  const model = await (await fetched("release/model.onnx")).arrayBuffer();
  const session = await ort.InferenceSession.create(model).catch((error) => {
    throw new Error(`release/model.onnx cannot be run: ${error.message}`, { cause: error });
  });
  return async (picture) => {
    const pixels = fit(await decoded(picture), head.preprocessing);
    const input = new ort.Tensor("float32", toInput(pixels, head.preprocessing), [1, channels, height, width]);
    const { embedding } = await session.run({ pixels: input });
    return { ...applyHead(head, embedding.data), embedding: [...embedding.data] };
  };
}

// RGBA as it lies in the file: upright by its EXIF orientation, colours not converted to the screen's.
// Where it has more than 8 bits a channel the browser has cut them down, and does not say so.
async function decoded(picture) {
  const asIs = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(picture, asIs).catch((error) => {
    throw new Error("is no picture that this browser can decode, or is cut off.", { cause: error });
  });
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}
