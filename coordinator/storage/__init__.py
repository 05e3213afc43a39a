"""Rows and files that survive a crash: tables, the database, checkpoints."""
