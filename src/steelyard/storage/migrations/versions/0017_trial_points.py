"""Curves of trials, as far as a search keeps them."""

from alembic import op

revision = "0017"
down_revision = "0019"
branch_labels = None
depends_on = None

_POINTS = """
    CREATE TABLE trial_points (
        job_id TEXT NOT NULL REFERENCES jobs (id),
        name TEXT NOT NULL,
        step BIGINT NOT NULL CHECK (step >= 0),
        project_id TEXT NOT NULL REFERENCES projects (id),
        value DOUBLE PRECISION NOT NULL,
        epoch BIGINT NOT NULL,
        PRIMARY KEY (job_id, name, step)
    );
"""


def upgrade() -> None:
    """Move forward."""
    op.execute(_POINTS)
    op.execute("SELECT wall_off('trial_points')")
