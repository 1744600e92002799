"""What is seen: images from folders, shards or a decoded cache, augmented and batched."""
