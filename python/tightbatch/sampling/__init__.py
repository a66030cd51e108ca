"""Plans of batches and packs: which rows go together, and which widths they are padded to."""
