// A head, as `commonlens-participant head export` writes it, applied to one embedding. No packages.

const FORMAT = "commonlens-linear-head/1";

/**
 * Throw unless `head` is a head of this format, for pictures, that was fitted on the release of `manifest`.
 *
 * This compares names. That the files are what the consortium signed is `commonlens verify`'s to prove.
 */
export function checkHead(head, manifest) {
  if (head?.format !== FORMAT) throw new Error(`Expected a head of format ${FORMAT}, found ${head?.format}.`);
  if (manifest?.signed?.release === undefined) throw new Error("manifest.json is not that of a release.");
  const { consortium, release } = manifest.signed;
  if (head.release.consortium !== consortium || head.release.release !== release) {
    throw new Error(
      `The head was fitted on ${head.release.release} of ${head.release.consortium}, and this is ${release} of ` +
        `${consortium}. Embeddings of another release mean something else.`,
    );
  }
  if (head.preprocessing.kind !== "image") {
    throw new Error(`${release} reads ${head.preprocessing.kind}s, and this example labels pictures.`);
  }
}

/**
 * The likeliest label and its probability: softmax(weight · embedding + bias).
 *
 * @param {{labels: string[], weight: number[][], bias: number[]}} head
 * @param {Float32Array} embedding
 * @returns {{label: string, probability: number}}
 */
export function applyHead(head, embedding) {
  const logits = head.bias.map((bias, k) =>
    head.weight[k].reduce((sum, weight, place) => sum + weight * embedding[place], bias),
  );
  const largest = Math.max(...logits);
  const exponentials = logits.map((logit) => Math.exp(logit - largest));
  const total = exponentials.reduce((sum, each) => sum + each, 0);
  const best = logits.indexOf(largest);
  return { label: head.labels[best], probability: exponentials[best] / total };
}
