"""Ids, clock, canonical JSON, errors, paging: what every layer may use, with no domain in it."""
