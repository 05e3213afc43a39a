"""What happens to a record in a round, steps 3 to 6 of the walk: start reading at local_round.py."""
