"""The HTTP API: routes parse, call one service, and answer. Nothing slow is on a request's path."""
