"""Targets in scenes of any size."""
