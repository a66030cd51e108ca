"""Make batches of samples, padded or one row after another: a DataLoader's ``collate_fn``."""
