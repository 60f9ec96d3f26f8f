"""Batches on Apache Beam, through the same stages as a worker. Needs the extra `beam`, in an environment of its own."""
