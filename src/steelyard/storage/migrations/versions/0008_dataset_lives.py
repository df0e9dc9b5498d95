"""Tombstones of datasets, uploads in parts."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_TOMBSTONES = """
    ALTER TABLE dataset_versions
        ADD COLUMN deleted_at TIMESTAMP WITH TIME ZONE,
        ADD COLUMN deleted_by TEXT;
    CREATE INDEX dataset_versions_by_digest ON dataset_versions (project_id, digest);
    CREATE INDEX dataset_versions_by_parents
        ON dataset_versions USING gin ((manifest -> 'parents') jsonb_path_ops);
    CREATE TABLE abandoned_blobs (
        digest TEXT NOT NULL,
        abandoned_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (digest)
    );
"""

_PARTS = """
    ALTER TABLE uploads
        ADD COLUMN state TEXT NOT NULL DEFAULT 'complete' CHECK (state IN ('receiving', 'complete')),
        ADD COLUMN part_size_bytes BIGINT;
    CREATE INDEX uploads_by_content ON uploads (project_id, digest, filename);
    CREATE INDEX uploads_by_age ON uploads (created_at);
    CREATE TABLE upload_parts (
        upload_id TEXT NOT NULL REFERENCES uploads (id) ON DELETE CASCADE,
        number BIGINT NOT NULL,
        project_id TEXT NOT NULL REFERENCES projects (id),
        size_bytes BIGINT NOT NULL,
        digest TEXT NOT NULL,
        received_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (upload_id, number)
    );
"""


def upgrade() -> None:
    """Move forward."""
    op.execute(_TOMBSTONES)
    op.execute(_PARTS)
