// A head, as `commonlens-participant head export` writes it, applied to one embedding. No packages.

const FORMAT = "commonlens-linear-head/1";

// Python builds no extractor for larger pictures.
const LARGEST_SIDE_PIXELS = 4096;

/**
 * Throw unless `head` is a head of this format, for pictures, that was fitted on the release of `manifest`.
 *
 * Of the release it compares names. That the files are what the consortium signed is `commonlens verify`'s to prove.
 */
export function checkHead(head, manifest) {
  if (head?.format !== FORMAT) throw new Error(`Expected a head of format ${FORMAT}, found ${head?.format}.`);
  if (manifest?.signed?.release === undefined) throw new Error("manifest.json is not that of a release.");
  const { consortium, release } = manifest.signed;
  if (head.release?.consortium !== consortium || head.release.release !== release) {
    throw new Error(
      `The head was fitted on ${head.release?.release} of ${head.release?.consortium}, and this is ${release} of ` +
        `${consortium}. Embeddings of another release mean something else.`,
    );
  }
  if (!head.preprocessing) throw new Error("The head does not say how a picture becomes its input (preprocessing).");
  checkPreprocessing(head.preprocessing, release);
  checkNumbers(head);
}

// A size from somebody else's file must not ask for all memory, and a number that is none would make every label NaN.
function checkPreprocessing({ kind, channels, height, width, mean, std }, release) {
  if (kind !== "image") throw new Error(`${release} reads ${kind}s, and this example labels pictures.`);
  const side = (value) => Number.isInteger(value) && value >= 1 && value <= LARGEST_SIDE_PIXELS;
  if (![1, 3].includes(channels) || !side(height) || !side(width)) {
    throw new Error(
      `Expected 1 or 3 channels and sides of 1 to ${LARGEST_SIDE_PIXELS} pixels, found ${channels} and ` +
        `${width} x ${height}.`,
    );
  }
  if (!numbers(mean, channels) || !numbers(std, channels) || std.includes(0)) {
    throw new Error(`Expected ${channels} numbers each in mean and std, and none of std to be 0.`);
  }
}

function checkNumbers({ labels, weight, bias, embedding_dim: dim }) {
  const count = Array.isArray(labels) ? labels.length : 0;
  if (count === 0 || !labels.every((label) => typeof label === "string")) {
    throw new Error("Expected labels to be a list of names.");
  }
  const rows = Array.isArray(weight) && weight.length === count && weight.every((row) => numbers(row, dim));
  if (!Number.isInteger(dim) || !rows || !numbers(bias, count)) {
    throw new Error(`Expected ${count} rows of ${dim} numbers in weight, and ${count} in bias: one for each label.`);
  }
}

const numbers = (list, count) => Array.isArray(list) && list.length === count && list.every(Number.isFinite);

/**
 * The likeliest label and its probability: softmax(weight · embedding + bias).
 *
 * @param {{labels: string[], weight: number[][], bias: number[], embedding_dim: number}} head one of `checkHead`
 * @param {Float32Array} embedding
 * @returns {{label: string, probability: number}}
 */
export function applyHead(head, embedding) {
  if (embedding.length !== head.embedding_dim) {
    throw new Error(`got ${embedding.length} numbers of the extractor, and the head is for ${head.embedding_dim}.`);
  }
  const logits = head.bias.map((bias, k) =>
    head.weight[k].reduce((sum, weight, place) => sum + weight * embedding[place], bias),
  );
  const largest = logits.reduce((one, other) => Math.max(one, other));
  const exponentials = logits.map((logit) => Math.exp(logit - largest));
  const total = exponentials.reduce((sum, each) => sum + each, 0);
  const best = logits.indexOf(largest);
  return { label: head.labels[best], probability: exponentials[best] / total };
}
