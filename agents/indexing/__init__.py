"""What happens to a record, wherever it comes from: the checks before, the stations, and what they work with."""
