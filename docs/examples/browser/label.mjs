// Label pictures in a browser with the release in release/ and the head in head.json, beside this file.

import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";
import { applyHead, checkHead } from "../head.mjs";
import { fit, toInput } from "../pictures.mjs";

// One thread: more need a page that is isolated from other origins (headers COOP and COEP).
ort.env.wasm.numThreads = 1;

const here = (name) => new URL(name, import.meta.url).href;
const json = async (name) => (await fetch(here(name))).json();

/** Give a function from a picture (File or Blob) to its label, probability and embedding. */
export async function load() {
  const head = await json("head.json");
  checkHead(head, await json("release/manifest.json"));
  const { channels, height, width } = head.preprocessing;
  const session = await ort.InferenceSession.create(here("release/model.onnx"));
  return async (picture) => {
    const pixels = fit(await decoded(picture), head.preprocessing);
    const input = new ort.Tensor("float32", toInput(pixels, head.preprocessing), [1, channels, height, width]);
    const { embedding } = await session.run({ pixels: input });
    return { ...applyHead(head, embedding.data), embedding: [...embedding.data] };
  };
}

// RGBA as it lies in the file: upright by its EXIF orientation, colours not converted to the screen's.
async function decoded(picture) {
  const bitmap = await createImageBitmap(picture, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}
