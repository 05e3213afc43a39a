"""Who belongs to the consortium: authority, invitations, members, the roll, people."""
