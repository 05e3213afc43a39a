"""`python -m demo`: a real consortium of five organisations on one machine. Not part of the installed package."""
