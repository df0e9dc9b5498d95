"""The audit trail: rows written with the acts, sealed afterwards, checkable by anyone who kept a checkpoint.

`record` inserts a row in the transaction of the act. A sealer in the worker puts rows that every reader can
see into one order, hashes each (`leaves`), chains the hashes (`chain`), grows an RFC 6962 tree over them
(`merkle`), and signs its root as a C2SP checkpoint (`notes`, `checkpoints`) that is kept outside of the
database (`publication`). `verification` recomputes all of it from the rows.
"""

from steelyard.governance.audit.recording import Outcome, record, record_change

__all__ = ["Outcome", "record", "record_change"]
