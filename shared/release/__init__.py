"""Signed documents and releases: who may say what, and how a stranger checks it."""
