"""Data, options, processes, logs and checkpoints of a pre-training run."""
