"""Kafka, beside what Faust does with it: the login, the log as it is, claims, and dead letters."""
