"""What happens to a record in a round, steps 3 to 6 of the walk: start reading at local_round.py."""

import os

# How MKL, which multiplies matrices for torch on x86, rounds a row depends on the row's place unless this is set: a
# record more or less would change what is found for the others (dp_sgd.py). MKL reads it once, at its first product.
os.environ.setdefault("MKL_CBWR", "AUTO")
