"""Elasticsearch: the client, requests that are repeated, bulks, and what is kept there: chunks, entries, notes."""
