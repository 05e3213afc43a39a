"""Flower at the coordinator's edge: the Fleet API, the link state, and bulk transfer beside it."""
