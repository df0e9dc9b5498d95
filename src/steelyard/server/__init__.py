"""Entry points of the server: composition, the processes, the embedded platform."""
