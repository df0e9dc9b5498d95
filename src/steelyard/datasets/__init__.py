"""Datasets: from raw files to clean, immutable versions."""
