"""A member's own side: records, training, heads, and the node that answers rounds."""
