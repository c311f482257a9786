"""The teacher: batches in, better weights out."""
