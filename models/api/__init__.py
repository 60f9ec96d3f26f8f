"""A model behind an HTTP service that speaks OpenAI's wire format: asked within its limits, its answers checked."""
