"""Attacks on one's own contribution, and a dry run that audits the mechanism: start reading at run.py."""
