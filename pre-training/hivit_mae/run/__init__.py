"""The run: options, checkpoints, learning rate, log."""
