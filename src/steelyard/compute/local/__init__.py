"""The local executor: attempts as processes of this machine, each under a small guardian, its shim.

The modules that a shim loads (`files`, `processes`, `signals`, `log`, `payload`, `shim`) import the
standard library alone, so that starting one costs milliseconds.
"""
