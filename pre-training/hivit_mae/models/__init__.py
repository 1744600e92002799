"""What is learnt: the masked autoencoder and its target."""
