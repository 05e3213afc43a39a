"""A member's own side: records, training, heads, and the node that answers rounds."""

import os

# How MKL, which multiplies matrices for torch on x86, rounds a row depends on the row's place unless this is set: a
# record more or less would change what is found for the others (training/dp_sgd.py). MKL reads it once, at the first
# product of the process, so it stands where everything of ours passes first. What the environment says instead does not
# count: set to nothing, it would be a switch that turns the clip off. training/places.py looks whether it took effect.
os.environ["MKL_CBWR"] = "AUTO"
