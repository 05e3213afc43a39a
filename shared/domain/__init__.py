"""The consortium's words as types; standard library only."""
