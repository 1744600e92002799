"""The masked autoencoder and its target."""
