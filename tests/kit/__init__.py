"""What tests stand on: real servers, workers and faults for them, and the oracle."""
