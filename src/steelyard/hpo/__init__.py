"""Searches over hyperparameters: which trial is next, which stops, and which is the best. Pure."""
