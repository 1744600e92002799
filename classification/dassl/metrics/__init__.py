"""Measures of a batch."""

from dassl.metrics.accuracy import compute_accuracy as compute_accuracy
