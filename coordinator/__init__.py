"""The control plane: members, plans, rounds, releases. Imports no torch."""
