"""The long run: `make chaos`. What takes minutes, with a summary of what was explored, killed, lost and found."""
