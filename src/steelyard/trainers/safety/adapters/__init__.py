"""Adapters to judges and probes of others. Each needs a library or weights of its own, and says which."""
