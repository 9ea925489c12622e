"""Fine-tuning: pictures, the stack, the trainer's code, and jobs."""
