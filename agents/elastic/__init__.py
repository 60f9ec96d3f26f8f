"""Elasticsearch: the client, requests that are repeated, bulks, and the three things that we keep there."""
