"""Secure aggregation: a sum of members' grid vectors of which nobody sees a part (clause 5).

No input or output happens here, and nothing is signed here: callers hand in bytes, keys and callables.
Bonawitz, Ivanov, Kreuter, Marcedone, McMahan, Patel, Ramage, Segal, Seth, "Practical Secure Aggregation
for Privacy-Preserving Machine Learning", CCS 2017.
"""
