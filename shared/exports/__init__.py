"""What strangers' tools read of a release, and how the numbers about it were measured, so that anyone can again."""
