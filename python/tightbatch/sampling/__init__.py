"""Which rows share a batch or a pack, and which widths they are padded to."""
