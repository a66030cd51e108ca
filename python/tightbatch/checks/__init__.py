"""What a user can prove of their own batches."""
