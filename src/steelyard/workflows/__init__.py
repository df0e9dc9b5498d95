"""Durable sequences. Files here import no library that does I/O: Temporal loads them in a sandbox."""
