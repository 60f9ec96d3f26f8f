"""All that speaks to a schema registry."""
