"""Aliases, transitions, approvals, gates, webhooks, lineage statements."""

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Move forward."""
