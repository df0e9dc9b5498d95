"""The ledger of GPU-seconds and money, budgets, prices."""

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Move forward."""
