"""Secrets under envelope encryption, and their key-encryption keys."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_SECRETS = """
    CREATE TABLE secrets (
        project_id TEXT NOT NULL REFERENCES projects (id),
        name TEXT NOT NULL,
        version BIGINT NOT NULL,
        key_id TEXT NOT NULL,
        wrapped_key BYTEA NOT NULL,
        sealed BYTEA NOT NULL,
        created_by TEXT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
        PRIMARY KEY (project_id, name)
    );
    CREATE INDEX secrets_by_key ON secrets (key_id);
"""


def upgrade() -> None:
    """Move forward."""
    op.execute(_SECRETS)
