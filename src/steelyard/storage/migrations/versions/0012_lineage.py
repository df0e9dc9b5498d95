"""Signed lineage statements: appended once, never changed."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_STATEMENTS = """
    CREATE TABLE lineage_statements (
        project_id TEXT NOT NULL REFERENCES projects (id),
        name TEXT NOT NULL,
        version BIGINT NOT NULL,
        digest TEXT NOT NULL,
        envelope TEXT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (project_id, name, version)
    );
    CREATE TRIGGER lineage_statements_append_only BEFORE UPDATE OR DELETE ON lineage_statements
        FOR EACH ROW EXECUTE FUNCTION refuse_change();
    CREATE TRIGGER lineage_statements_keep BEFORE TRUNCATE ON lineage_statements
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
    ALTER TABLE lineage_statements ENABLE ALWAYS TRIGGER lineage_statements_append_only;
    ALTER TABLE lineage_statements ENABLE ALWAYS TRIGGER lineage_statements_keep;
    REVOKE ALL ON lineage_statements FROM PUBLIC;
    REVOKE UPDATE, DELETE, TRUNCATE ON lineage_statements FROM CURRENT_USER;
"""


def upgrade() -> None:
    """Move forward."""
    op.execute(_STATEMENTS)
    op.execute("SELECT wall_off('lineage_statements')")
