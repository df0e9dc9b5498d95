"""Pools, flavors, quotas, decayed use, and what the scheduler remembers."""

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Move forward."""
