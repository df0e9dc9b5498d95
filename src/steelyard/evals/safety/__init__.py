"""Safety results in words: what was tested, how far to trust it, and what was not tested."""
