"""What batches of a data set would cost, and what those of a loader do cost."""
