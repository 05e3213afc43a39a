"""What one can check of a release by running it: its card's claims again, and its behaviour beside another's."""
