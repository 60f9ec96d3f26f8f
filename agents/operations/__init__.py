"""What operators do, beside the workers: look, mend, take up again, build again, promote, begin an epoch, search."""
