"""Safety suites: probe sets with their scorers, canaries, and adapters to judges that need weights."""
