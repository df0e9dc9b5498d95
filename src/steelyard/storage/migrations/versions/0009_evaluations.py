"""Suites, evaluations, and their results."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_SUITES = """
    CREATE TABLE suites (
        id TEXT NOT NULL,
        project_id TEXT,
        organization_id TEXT,
        name TEXT NOT NULL,
        digest TEXT NOT NULL,
        manifest JSONB NOT NULL,
        size_bytes BIGINT NOT NULL,
        texts_digest TEXT NOT NULL,
        runs_code BOOLEAN NOT NULL,
        created_by TEXT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        removed_at TIMESTAMP WITH TIME ZONE,
        PRIMARY KEY (id),
        FOREIGN KEY(project_id) REFERENCES projects (id),
        CHECK (num_nonnulls(project_id, organization_id) = 1)
    );
    CREATE UNIQUE INDEX suites_of_projects ON suites (project_id, name, digest)
        WHERE project_id IS NOT NULL;
    CREATE UNIQUE INDEX suites_of_organizations ON suites (organization_id, name, digest)
        WHERE organization_id IS NOT NULL;
"""

# Promotion leans on these rows: what was approved must still be there, word for word.
_EVALUATIONS = """
    CREATE TABLE evaluations (
        id TEXT NOT NULL,
        project_id TEXT NOT NULL,
        job_id TEXT NOT NULL,
        run_number BIGINT NOT NULL,
        attempt_id TEXT,
        subject TEXT NOT NULL CHECK (subject IN ('base', 'tuned')),
        model_name TEXT NOT NULL,
        model_digest TEXT NOT NULL,
        suite TEXT NOT NULL,
        suite_digest TEXT NOT NULL,
        settings JSONB NOT NULL,
        settings_digest TEXT NOT NULL,
        engine TEXT NOT NULL,
        n BIGINT NOT NULL,
        samples_digest TEXT NOT NULL,
        metrics JSONB NOT NULL,
        digest TEXT NOT NULL,
        seconds FLOAT NOT NULL,
        cached_from TEXT,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (id),
        UNIQUE (job_id, run_number, subject, suite),
        FOREIGN KEY(project_id) REFERENCES projects (id),
        FOREIGN KEY(job_id) REFERENCES jobs (id)
    );
    CREATE INDEX evaluations_by_project ON evaluations (project_id, id DESC);
    CREATE INDEX evaluations_by_model ON evaluations (project_id, model_digest, suite, id DESC);
    CREATE TRIGGER evaluations_append_only BEFORE UPDATE OR DELETE ON evaluations
        FOR EACH ROW EXECUTE FUNCTION refuse_change();
    CREATE TRIGGER evaluations_keep BEFORE TRUNCATE ON evaluations
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
    ALTER TABLE evaluations ENABLE ALWAYS TRIGGER evaluations_append_only;
    ALTER TABLE evaluations ENABLE ALWAYS TRIGGER evaluations_keep;
    REVOKE ALL ON evaluations FROM PUBLIC;
    REVOKE UPDATE, DELETE, TRUNCATE ON evaluations FROM CURRENT_USER;
"""


def upgrade() -> None:
    """Move forward."""
    op.execute(_SUITES)
    op.execute(_EVALUATIONS)
