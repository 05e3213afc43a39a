"""Sentences of settings whose field in the source has none of its own, and of the architectures' options."""

from __future__ import annotations

from collections.abc import Mapping

SENTENCES: Mapping[str, str] = {
    "Config.consortium": "The consortium's name; it stands in every signed document.",
    "Config.host": "The address to listen on; 0.0.0.0 for all of the machine.",
    "Config.port": "The one port: members, admins and releases.",
    "Limits.attempts_window_s": "The window in which attempts are counted.",
    "Limits.session_lifetime_s": "How long a signed-in person stays signed in.",
    "Limits.invitation_lifetime_s": "How long an invitation can be spent.",
    "Policy.epsilon": "The ceiling of ε for the whole life of the data set.",
    "Policy.delta": "The δ at which that ceiling is measured; plans with a larger δ are refused.",
    "Policy.least_quorum": "Plans whose sum may hold fewer members than this are refused.",
    "Policy.most_colluders": "Plans that hold against fewer colluding members than this are refused (mode secure).",
    "Policy.most_epsilon_alone": "Ceiling for the data set's life if all others deviate; 0 sets none (mode secure).",
    "Policy.architectures": "The extractors that this member trains; must be among those it has installed.",
    "Policy.modes": "The modes that this member allows.",
    "PlanDraft.extractor_name": "Releases appear under it: lower-case letters, digits, '_', single '-' between.",
    "PlanDraft.rounds": "How many rounds a complete run has.",
    "PlanDraft.evaluate_every": "Noised validation counts every so many rounds; 0 means never.",
    "PlanDraft.starting_seed": "Seed of the starting weights, which are public.",
    "PlanDraft.deadline_s": "Seconds in which a round's contributions must arrive.",
    "PlanDraft.quorum": "The least contributions that make a round count; by default the least above 2n/3.",
    "PlanDraft.colluders": "Members that may work with the coordinator; by default n / 3 in mode secure, else 0.",
    "PlanDraft.tolerance_steps": "Noise steps for drop-outs, at most 4; by default one a drop-out (mode secure).",
    "PlanDraft.ring_bits": "32, or 16 for half the upload where sums are small enough (mode secure).",
    "ExtractorSpec.architecture": "One of the [architectures](#architectures) that every member's policy allows.",
    "ExtractorSpec.channels": "1 for grey, 3 for colour, 1 for texts.",
    "ExtractorSpec.height": "Pixels; images are resized to it. 1 for texts.",
    "ExtractorSpec.width": "Pixels; images are resized to it. Of texts, the bytes that are read: longer ones are cut.",
    "ExtractorSpec.embedding_dim": "Length of an embedding.",
    "ExtractorSpec.mean": "Subtracted from pixels in 0…1, per channel; a public number, never measured. Not of texts.",
    "ExtractorSpec.std": "Pixels are divided by it, per channel; a public number, never measured. Not of texts.",
    "ExtractorSpec.options": "Of the architecture, by name: see [architectures](#architectures).",
    "TrainingTerms.local_steps": "Training steps of a member in one round; each adds full noise.",
    "TrainingTerms.head_learning_rate": "Of the training head.",
    "ServerOptimizer.name": "fedavg or fedadam.",
    "ServerOptimizer.learning_rate": "Of the server's step along the averaged update.",
    "ServerOptimizer.beta1": "FedAdam: decay of the mean.",
    "ServerOptimizer.beta2": "FedAdam: decay of the squares.",
    "ServerOptimizer.epsilon": "FedAdam: added to the root of the squares (not a privacy number).",
    "PrivacyDraft.target_epsilon": "The dial: ε that a complete run may cost each member; the form opens at 3.",
    "PrivacyDraft.clip_norm_l2": "C: no unit's gradient over extractor and training head is longer (L2).",
    "PrivacyDraft.sampling_rate": "q: the chance of each unit to be drawn into a step.",
    "PrivacyDraft.mode": "secure shares the noise out, local has each member add all of it; see docs/protocol.md.",
    "PrivacyDraft.unit": "Whose presence is hidden: record, or person.",
    "PrivacyDraft.delta": "At most 1e-5 and at most 1/(10 × declared size).",
    "PrivacyDraft.noise_multiplier": "σ; left out, it is calibrated for the target ε.",
    "PrivacyDraft.evaluation_noise_multiplier": "Std of the noise on each validation count.",
}
"""`Dataclass.field` to text."""

OPTIONS: Mapping[str, str] = {
    "fixed-mlp": "Public oriented filters that nobody trains, and a small MLP on top that everybody does: few "
    "coordinates to noise, so the best start for small consortia.",
    "small-gn": "Three convolutions, 0.07 M parameters.",
    "wrn-16-4-gn": "Wide ResNet 16-4 as De et al. 2022 train it privately, 2.7 M parameters.",
    "resnet18-gn": "ResNet-18 with GroupNorm, 11 M parameters.",
    "vit-tiny": "A small vision transformer, 2.7 M parameters.",
    "efficientnet-lite0": "Made for 224x224, 3.4 M parameters, its BatchNorm frozen. With an embedding_dim of 1280 the "
    "embedding is the features themselves.",
    "ngram-bag": "For texts: how often which n-grams of bytes occur, by a table and a small MLP; 0.28 M parameters.",
    "byte-transformer": "For texts of at most 512 bytes: a small transformer over bytes, 0.12 M parameters.",
    "buckets": "Slots of the table; n-grams of one slot are not told apart. buckets × width is at most 1,048,576.",
    "longest": "Bytes of the longest n-grams that are counted; 1 to 8.",
    "ngram-bag.width": "Numbers that the table holds for each slot.",
    "byte-transformer.width": "Length of a token; heads and 4 must divide it.",
    "colours": "How much of each colour of a palette the picture has, as a soft histogram in CIE Lab. levels³ numbers, "
    "or levels of a grey picture.",
    "hog": "Histograms of oriented gradients (Dalal and Triggs 2005), which see outlines. block² × orientations "
    "numbers for each place of a block; pictures of at least cell × block pixels a side.",
    "lbp": "Histograms of local binary patterns (Ojala et al. 2002; 8 neighbours at radius 1, uniform), which see "
    "texture. grid² × 10 numbers; pictures of at least grid pixels a side.",
    "edge-layout": "Strength of Sobel edges in each part of the picture, which sees where things are. grid² × "
    "(1 + orientations) numbers; pictures of at least grid pixels a side.",
    "colours.levels": "Equally spaced values of each channel in the palette; 2 to 6, or to 216 for grey pictures.",
    "softness": "Distance in ΔE over which a pixel counts for several colours of the palette; 5 to 50.",
    "hog.orientations": "Bins over the 180° that an edge can have; at most 36.",
    "cell": "Pixels of a cell's side; 2 to 512.",
    "block": "Cells of the side of a block, within which contrast is taken out; at most 8.",
    "lbp.grid": "Patterns are counted in each of grid × grid places; 1 counts over the whole picture, at most 64.",
    "edge-layout.grid": "Edges are averaged over grid × grid places of the picture; at most 64.",
    "edge-layout.orientations": "Directions of edges besides their strength in all; at most 36.",
    "bert": "The encoder of sentence embeddings (Devlin et al. 2018): word pieces of a text of at most width bytes, "
    "transformer blocks, the mean over the tokens at length 1. 22 M parameters as all-MiniLM-L6-v2 has them; "
    "embedding_dim is the width of its blocks, and heads must divide it.",
    "words": "Words of the vocabulary, which stands in the weights file.",
    "places": "Tokens that it has positions for.",
    "bert.hidden": "Numbers between the two Linear layers of a block.",
    "tokens": "Texts are cut to so many, [CLS] and [SEP] among them; at most places.",
    "scales": "Sizes of filters.",
    "orientations": "Directions of filters at each size; scales × orientations is at most 1024.",
    "kernel": "Pixels of a filter's side; odd, at most 31.",
    "grid": "Answers of filters are averaged over grid × grid places of the picture.",
    "order": "2 adds the filters' answers to the answers (a scattering transform); needs 2 scales, costs time.",
    "hidden": "Width of the trained MLP's hidden layer.",
    "concatenate": "Whether the fixed features follow the trained ones in the embedding. The training head sees the "
    "trained ones alone; heads of daily use see both.",
    "small-gn.width": "Channels of the first convolution; the others have twice as many.",
    "resnet18-gn.width": "Channels of the first group; each next group has twice as many.",
    "vit-tiny.width": "Length of a token; heads and 4 must divide it.",
    "widen": "How many times as wide as a plain ResNet.",
    "norm": "batch is there to be refused: it mixes records (clause 2.5).",
    "stem": "small is a 3x3 convolution, for pictures up to 64 pixels; large is 7x7 and pooling.",
    "weight_standardisation": "Whether each filter is brought to mean 0 and one variance; not with scope lora.",
    "patch": "Pixels of a token's side; must divide height and width.",
    "depth": "Transformer blocks, at most 64.",
    "heads": "Attention heads of a block.",
    "scope": "What is trained: all, the last block, the norms' scales and shifts (film), or low-rank changes (lora). "
    "The rest stays as the starting weights have it; fewer coordinates need less noise and fewer bytes.",
    "lora_rank": "Rank of the changes; only with scope lora.",
}
"""Architecture, option, or `architecture.option` to text."""
