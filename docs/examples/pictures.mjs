// A picture as an extractor expects it. No packages: the same file serves Node.js and browsers.
//
// `fit` does what Pillow's ImageOps.fit(picture, size, BILINEAR) does, and `toInput` gives the very numbers that the
// extractor sees in Python, where Pillow is of version 13. Pillow rounds between two passes, and which direction comes
// first has changed with its version: with another one some pixels of a resized picture may differ by one level. A
// picture of the extractor's size keeps its bytes with any. Both are tested against Python.

// Pillow's 8-bit filters count in whole numbers of 2^-22.
const PRECISION = 22;

/**
 * The picture as bytes of [height, width, channels], centre-cropped to the target's proportions and resized.
 *
 * @param {{width: number, height: number, data: Uint8Array | Uint8ClampedArray}} picture RGBA, 8 bits, opaque
 * @param {{channels: number, height: number, width: number}} target 1 channel (grey) or 3 (RGB)
 * @returns {Uint8Array}
 */
export function fit(picture, target) {
  const { width, height } = picture;
  const pixels = withChannels(picture, target.channels);
  if (width === target.width && height === target.height) return pixels;
  const ratio = target.width / target.height;
  let [cropWidth, cropHeight] = [width, height];
  if (width / height > ratio) cropWidth = ratio * height;
  if (width / height < ratio) cropHeight = width / ratio;
  // Pillow keeps the box in single precision.
  const left = Math.fround((width - cropWidth) * 0.5);
  const top = Math.fround((height - cropHeight) * 0.5);
  const right = Math.fround((width - cropWidth) * 0.5 + cropWidth);
  const bottom = Math.fround((height - cropHeight) * 0.5 + cropHeight);
  return resized(pixels, width, height, target, { left, top, right, bottom });
}

/**
 * Bytes of [height, width, channels] → float32 of [channels, height, width]: (value / 255 - mean) / std.
 *
 * @param {Uint8Array} pixels
 * @param {{channels: number, height: number, width: number, mean: number[], std: number[]}} preprocessing
 * @returns {Float32Array}
 */
export function toInput(pixels, { channels, height, width, mean, std }) {
  const places = height * width;
  const input = new Float32Array(channels * places);
  for (let channel = 0; channel < channels; channel++) {
    const [m, s] = [Math.fround(mean[channel]), Math.fround(std[channel])];
    for (let place = 0; place < places; place++) {
      const value = Math.fround(pixels[place * channels + channel] / 255);
      input[channel * places + place] = Math.fround(value - m) / s;
    }
  }
  return input;
}

function withChannels({ width, height, data }, channels) {
  const pixels = new Uint8Array(width * height * channels);
  for (let place = 0; place < width * height; place++) {
    const [red, green, blue, alpha] = data.subarray(4 * place, 4 * place + 4);
    if (alpha !== 255) {
      throw new Error("has transparent parts, and this example reads opaque pictures. Put it on white first.");
    }
    if (channels === 3) pixels.set([red, green, blue], 3 * place);
    // ITU-R 601-2 luma, as Pillow counts it.
    else pixels[place] = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16;
  }
  return pixels;
}

// One pass for each direction; each is rounded to bytes, and left out where nothing changes in its direction.
function resized(pixels, width, height, target, box) {
  const across = (from) => resizedAcross(from, width, target, box);
  const down = (from) => resizedDown(from, height, target, box);
  // What Pillow 13 was found to do; before, it always went across first.
  const downFirst = height > target.height && height - target.height > 2 * (width - target.width);
  return downFirst ? across(down(pixels)) : down(across(pixels));
}

// [rows, width, channels] → [rows, target.width, channels], of any number of rows.
function resizedAcross(pixels, width, { channels, width: count }, { left, right }) {
  if (count === width && left === 0 && right === width) return pixels;
  const rows = pixels.length / (width * channels);
  const next = new Uint8Array(rows * count * channels);
  windows(width, left, right, count).forEach(({ first, weights }, x) => {
    for (let y = 0; y < rows; y++) {
      for (let channel = 0; channel < channels; channel++) {
        const start = (y * width + first) * channels + channel;
        next[(y * count + x) * channels + channel] = weighed(pixels, start, channels, weights);
      }
    }
  });
  return next;
}

// [height, columns, channels] → [target.height, columns, channels], of any number of columns.
function resizedDown(pixels, height, { height: count }, { top, bottom }) {
  if (count === height && top === 0 && bottom === height) return pixels;
  const row = pixels.length / height;
  const next = new Uint8Array(count * row);
  windows(height, top, bottom, count).forEach(({ first, weights }, y) => {
    for (let place = 0; place < row; place++) {
      next[y * row + place] = weighed(pixels, first * row + place, row, weights);
    }
  });
  return next;
}

function weighed(values, start, step, weights) {
  let sum = 1 << (PRECISION - 1);
  for (let k = 0; k < weights.length; k++) sum += values[start + k * step] * weights[k];
  return Math.min(255, Math.max(0, sum >> PRECISION));
}

// For each place of the output, which inputs it is made of: a triangle as wide as the inputs that one output covers.
function windows(size, from, to, count) {
  const scale = Math.fround(to - from) / count;
  const support = Math.max(scale, 1);
  const perInput = 1 / support;
  return Array.from({ length: count }, (_, place) => {
    const centre = from + (place + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - support + 0.5), 0);
    const last = Math.min(Math.trunc(centre + support + 0.5), size);
    const heights = Array.from({ length: last - first }, (_, k) =>
      Math.max(0, 1 - Math.abs((k + first - centre + 0.5) * perInput)),
    );
    const total = heights.reduce((sum, each) => sum + each, 0);
    return { first, weights: heights.map((each) => Math.trunc(0.5 + (each / total) * 2 ** PRECISION)) };
  });
}
