"""The privacy core: noise (mechanism), what it costs (accountant) and what was spent (chain, ledger)."""
