"""By which token a token was made; and meters of places that no attempt runs in."""

from alembic import op

revision = "0015"
down_revision = "0013"
branch_labels = None
depends_on = None

_TOKENS = """
    ALTER TABLE api_tokens ADD COLUMN made_with TEXT REFERENCES api_tokens (id);
    CREATE INDEX api_tokens_by_maker ON api_tokens (made_with) WHERE made_with IS NOT NULL;
"""

# `place`: of a job that holds GPUs while no attempt of its runs. `left`: of one that was given back, whose
# last seconds are to be posted.
_METERS = """
    ALTER TABLE attempt_meters ADD COLUMN kind TEXT NOT NULL DEFAULT 'attempt'
        CHECK (kind IN ('attempt', 'place', 'left'));
    CREATE INDEX attempt_meters_of_places ON attempt_meters (job_id) WHERE NOT closed AND kind <> 'attempt';
"""


def upgrade() -> None:
    """Move forward."""
    for statements in (_TOKENS, _METERS):
        op.execute(statements)
