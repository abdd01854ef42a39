"""The schema: models, what is generated from them, and the API server that enforces it."""
