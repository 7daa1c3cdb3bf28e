"""The models: their registry, published numbers, and where weights are."""
