"""Prove on the user's own batches and models that padding and packing change nothing."""
