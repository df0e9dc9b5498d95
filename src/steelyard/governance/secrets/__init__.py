"""Secrets of projects: hub tokens, keys of object stores. Written, used by jobs, never read back."""
