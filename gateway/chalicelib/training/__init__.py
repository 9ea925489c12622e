"""Fine-tuning: data sets, training jobs and their adapters; no HTTP."""
