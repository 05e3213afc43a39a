"""Tools of the repository itself: lock, generated pages, deployment checks. Not part of any wheel."""
