"""What happens to a record, wherever it comes from: the checks before, the stages, and what they work with."""
