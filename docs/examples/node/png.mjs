// A PNG file as RGBA, or a sentence that says why not. What Python refuses or turns is refused here.

import { PNG } from "pngjs";

const SIGNATURE = "89504e470d0a1a0a";
const ORIENTATION = 0x0112;
// As in Python: a small file can claim, or unpack to, more than the memory holds.
const MAXIMUM_PIXELS = 89_478_485;

/**
 * @param {Buffer} file
 * @returns {{width: number, height: number, data: Buffer}} RGBA, 8 bits a channel
 */
export function decoded(file) {
  if (file.toString("hex", 0, 8) !== SIGNATURE) throw new Error("is not a PNG. Save it as one first.");
  const pixels = file.length < 24 ? 0 : file.readUInt32BE(16) * file.readUInt32BE(20);
  if (pixels > MAXIMUM_PIXELS) throw new Error(`has more than ${MAXIMUM_PIXELS} pixels.`);
  const turned = orientation(file);
  if (turned > 1) throw new Error(`is to be turned (EXIF orientation ${turned}). Save it upright first.`);
  const { depth, ...picture } = read(file);
  if (depth > 8) throw new Error(`has ${depth} bits a channel, expected 8. Convert it first.`);
  return picture;
}

function read(file) {
  try {
    return PNG.sync.read(file);
  } catch (error) {
    throw new Error(`cannot be decoded, it may be cut off (${error.message}).`, { cause: error });
  }
}

// Which side is up by the chunk eXIf, a TIFF header and its first directory; 1, upright, where it does not say.
function orientation(file) {
  const chunk = chunkNamed(file, "eXIf");
  if (!chunk || chunk.length < 10) return 1;
  const little = chunk.toString("latin1", 0, 2) === "II";
  const number = (at, bytes) => {
    if (at + bytes > chunk.length) return 0;
    return little ? chunk.readUIntLE(at, bytes) : chunk.readUIntBE(at, bytes);
  };
  const start = number(4, 4);
  const entries = Array.from({ length: number(start, 2) }, (_, k) => start + 2 + 12 * k);
  const found = entries.find((entry) => number(entry, 2) === ORIENTATION);
  return found === undefined ? 1 : number(found + 8, 2);
}

function chunkNamed(file, name) {
  for (let at = 8; at + 12 <= file.length; at += 12 + file.readUInt32BE(at)) {
    if (file.toString("latin1", at + 4, at + 8) === name) return file.subarray(at + 8, at + 8 + file.readUInt32BE(at));
  }
  return null;
}
