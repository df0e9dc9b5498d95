"""Jobs that are made of jobs: whose child a job is, by which name, and on what order."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

# A child and its parent are of one project: the composite key says so for every writer.
_CHILDREN = """
    ALTER TABLE jobs ADD CONSTRAINT jobs_of_one_project UNIQUE (id, project_id);
    ALTER TABLE jobs ADD COLUMN parent_id TEXT;
    ALTER TABLE jobs ADD COLUMN child_key TEXT;
    ALTER TABLE jobs ADD COLUMN child_order JSONB;
    ALTER TABLE jobs ADD COLUMN family_end JSONB;
    ALTER TABLE jobs ADD CONSTRAINT jobs_parent_fkey
        FOREIGN KEY (parent_id, project_id) REFERENCES jobs (id, project_id);
    ALTER TABLE jobs ADD CONSTRAINT jobs_children_are_whole
        CHECK ((parent_id IS NULL) = (child_key IS NULL) AND (parent_id IS NULL) = (child_order IS NULL));
    ALTER TABLE jobs ADD CONSTRAINT jobs_children_have_no_end CHECK (parent_id IS NULL OR family_end IS NULL);
    CREATE UNIQUE INDEX jobs_by_parent ON jobs (parent_id, child_key) WHERE parent_id IS NOT NULL;
    CREATE INDEX jobs_without_parent ON jobs (project_id, id DESC) WHERE parent_id IS NULL;
"""


def upgrade() -> None:
    """Move forward."""
    op.execute(_CHILDREN)
