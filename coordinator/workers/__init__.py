"""Work that needs torch, each a module started as its own process: the control plane imports none of it."""
