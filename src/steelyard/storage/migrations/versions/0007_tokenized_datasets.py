"""Tokenized caches of dataset versions."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_CACHES = """
    CREATE TABLE tokenized_caches (
        project_id TEXT NOT NULL REFERENCES projects (id),
        key TEXT NOT NULL,
        dataset_digest TEXT NOT NULL,
        tokenizer TEXT NOT NULL,
        settings JSONB NOT NULL,
        path TEXT NOT NULL,
        digest TEXT NOT NULL,
        size_bytes BIGINT NOT NULL,
        summary JSONB NOT NULL,
        made_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        last_used_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (project_id, key)
    );
    CREATE INDEX tokenized_caches_by_dataset ON tokenized_caches (project_id, dataset_digest);
    CREATE INDEX tokenized_caches_by_use ON tokenized_caches (last_used_at);
"""


def upgrade() -> None:
    """Move forward."""
    op.execute(_CACHES)
