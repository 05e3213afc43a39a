"""A member's own side: records, training, heads, and the node that answers rounds."""

import os

# How MKL, which multiplies matrices for torch on x86, rounds a row depends on the row's place unless this is set: a
# record more or less would change what is found for the others (training/dp_sgd.py). MKL reads it once, at the first
# product of the process, so it stands where everything of ours passes first.
os.environ.setdefault("MKL_CBWR", "AUTO")
