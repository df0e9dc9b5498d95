"""What MLflow's registry must hold: the run of each version, and how often a model was put right there."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_STATEMENTS = """
    ALTER TABLE models ADD COLUMN mirror_repairs BIGINT NOT NULL DEFAULT 0;
    ALTER TABLE model_versions ADD COLUMN mlflow_run_id TEXT;
    UPDATE model_versions SET mlflow_run_id = jobs.mlflow_run_id FROM jobs
        WHERE jobs.id = model_versions.job_id AND jobs.run_number = model_versions.run_number
          AND model_versions.mlflow_version IS NOT NULL;
"""


def upgrade() -> None:
    """Move forward."""
    op.execute(_STATEMENTS)
