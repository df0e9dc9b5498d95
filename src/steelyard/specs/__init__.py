"""The language that every process speaks: job specs, states, and the messages between processes.

Pydantic models only, frozen and strict, with unknown fields refused. Nothing here does I/O.
"""
