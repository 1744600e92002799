"""Pre-training: a HiViT masked autoencoder that predicts gradient features of SAR images."""
