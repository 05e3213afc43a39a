"""Make releases, show them, serve them."""
