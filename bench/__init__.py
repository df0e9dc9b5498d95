"""Benchmarks: ratios and figures that each run measures anew."""
