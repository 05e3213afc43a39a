"""Plans, runs and rounds: what members agreed to, and one execution of it after another."""
