"""Call diffusers pipelines: one, or a base and a refiner."""
