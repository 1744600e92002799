"""Detection annotations: checks of COCO files, conversion, splits. Imports neither PyTorch nor MMDetection."""
