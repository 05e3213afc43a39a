"""The pages: what admins, auditors and members of a consortium see and do in a browser."""
