"""How many workers a load takes: worked out, simulated, and held against a worker that really runs."""
