// A picture as an extractor expects it. No packages: the same file serves Node.js and browsers.
//
// `fit` does what Pillow's ImageOps.fit(picture, size, BILINEAR) does, and `toInput` gives the very numbers that the
// extractor sees in Python. A picture of the extractor's size keeps its bytes. One that is resized may differ by one
// level in some pixels: Pillow rounds between two passes, and which direction comes first changes with its version
// and the sizes. Both are tested against Python.

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
    if (alpha !== 255) throw new Error("This example reads opaque pictures; put it on white first.");
    if (channels === 3) pixels.set([red, green, blue], 3 * place);
    // ITU-R 601-2 luma, as Pillow counts it.
    else pixels[place] = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16;
  }
  return pixels;
}

// Across first, then down; each pass is rounded to bytes, and left out where nothing changes in its direction.
function resized(pixels, width, height, target, { left, top, right, bottom }) {
  const { channels } = target;
  let current = pixels;
  if (target.width !== width || left !== 0 || right !== width) {
    const next = new Uint8Array(height * target.width * channels);
    windows(width, left, right, target.width).forEach(({ first, weights }, x) => {
      for (let y = 0; y < height; y++) {
        for (let channel = 0; channel < channels; channel++) {
          const start = (y * width + first) * channels + channel;
          next[(y * target.width + x) * channels + channel] = weighed(current, start, channels, weights);
        }
      }
    });
    current = next;
  }
  if (target.height !== height || top !== 0 || bottom !== height) {
    const row = target.width * channels;
    const next = new Uint8Array(target.height * row);
    windows(height, top, bottom, target.height).forEach(({ first, weights }, y) => {
      for (let place = 0; place < row; place++) {
        next[y * row + place] = weighed(current, first * row + place, row, weights);
      }
    });
    current = next;
  }
  return current;
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
