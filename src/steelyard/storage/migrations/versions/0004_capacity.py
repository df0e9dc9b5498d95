"""Pools, flavors, quotas, decayed use, and what the scheduler remembers."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_FLAVORS = """
    CREATE TABLE flavors (
        name TEXT NOT NULL,
        gpu_type TEXT NOT NULL DEFAULT '',
        spot BOOLEAN NOT NULL DEFAULT false,
        price_per_gpu_hour NUMERIC CHECK (price_per_gpu_hour >= 0),
        updated_by TEXT NOT NULL DEFAULT 'system',
        updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (name)
    );
    INSERT INTO flavors (name, spot) SELECT flavor, bool_or(spot) FROM nodes GROUP BY flavor;
    ALTER TABLE nodes
        DROP COLUMN spot,
        ADD FOREIGN KEY (flavor) REFERENCES flavors (name),
        ADD COLUMN simulated BOOLEAN NOT NULL DEFAULT false,
        ADD COLUMN agent_started_at TIMESTAMP WITH TIME ZONE,
        ADD COLUMN interruption_deadline TIMESTAMP WITH TIME ZONE,
        ADD COLUMN interruption_reason TEXT;
    CREATE TABLE pool_settings (
        only_row BOOLEAN NOT NULL DEFAULT true CHECK (only_row),
        currency TEXT NOT NULL,
        policy JSONB NOT NULL,
        updated_by TEXT NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (only_row)
    );
    INSERT INTO pool_settings (currency, policy, updated_by) VALUES ('EUR', '{}', 'system');
"""

_QUOTAS = """
    CREATE TABLE quotas (
        project_id TEXT NOT NULL,
        flavor TEXT NOT NULL,
        nominal BIGINT NOT NULL CHECK (nominal >= 0),
        borrowing_limit BIGINT CHECK (borrowing_limit >= 0),
        lending_limit BIGINT CHECK (lending_limit >= 0),
        updated_by TEXT NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
        PRIMARY KEY (project_id, flavor),
        FOREIGN KEY(project_id) REFERENCES projects (id),
        FOREIGN KEY(flavor) REFERENCES flavors (name)
    );
    CREATE TABLE project_shares (
        project_id TEXT NOT NULL,
        weight DOUBLE PRECISION NOT NULL DEFAULT 1 CHECK (weight >= 0 AND weight < 'infinity'),
        idle JSONB,
        updated_by TEXT NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
        PRIMARY KEY (project_id),
        FOREIGN KEY(project_id) REFERENCES projects (id)
    );
    CREATE TABLE project_usage (
        project_id TEXT NOT NULL,
        gpu_seconds DOUBLE PRECISION NOT NULL,
        cpu_seconds DOUBLE PRECISION NOT NULL,
        decayed_to TIMESTAMP WITH TIME ZONE NOT NULL,
        PRIMARY KEY (project_id),
        FOREIGN KEY(project_id) REFERENCES projects (id)
    );
    ALTER TABLE allocations ADD COLUMN charged_until TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL;
    CREATE INDEX allocations_by_node ON allocations (node);
"""

_MEMORY = """
    CREATE TABLE nominations (
        job_id TEXT NOT NULL,
        project_id TEXT NOT NULL,
        nodes JSONB NOT NULL,
        since TIMESTAMP WITH TIME ZONE NOT NULL,
        PRIMARY KEY (job_id),
        FOREIGN KEY(job_id) REFERENCES jobs (id),
        FOREIGN KEY(project_id) REFERENCES projects (id)
    );
    CREATE TABLE preemptions (
        job_id TEXT NOT NULL,
        for_job_id TEXT NOT NULL,
        project_id TEXT NOT NULL,
        reason TEXT NOT NULL,
        at TIMESTAMP WITH TIME ZONE NOT NULL,
        PRIMARY KEY (job_id, for_job_id),
        FOREIGN KEY(job_id) REFERENCES jobs (id),
        FOREIGN KEY(project_id) REFERENCES projects (id)
    );
    ALTER TABLE attempts ADD COLUMN gpu_utilisation DOUBLE PRECISION;
    CREATE TABLE attempt_activity (
        attempt_id TEXT NOT NULL,
        project_id TEXT NOT NULL,
        step BIGINT NOT NULL,
        step_at TIMESTAMP WITH TIME ZONE NOT NULL,
        busy_at TIMESTAMP WITH TIME ZONE NOT NULL,
        warned_at TIMESTAMP WITH TIME ZONE,
        PRIMARY KEY (attempt_id),
        FOREIGN KEY(attempt_id) REFERENCES attempts (id),
        FOREIGN KEY(project_id) REFERENCES projects (id)
    );
"""

# What a queued job asks for, taken out of its spec once: a round over ten thousand jobs reads no JSON.
_LAUNCH = "COALESCE(spec->'trial', spec->'template', spec)"
_ASKS = {
    "asked_gpus BIGINT": "COALESCE((resources->>'gpus')::BIGINT, 0)",
    "asked_cpus BIGINT": "COALESCE((resources->>'cpus')::BIGINT, 1)",
    "asked_memory_bytes BIGINT": "(COALESCE((resources->>'memory_gb')::NUMERIC, 0) * 1000000000)::BIGINT",
    "asked_flavors TEXT": "COALESCE(resources->>'flavors', '[]')",
    "asked_spot TEXT": """CASE resources->>'spot'
        WHEN 'true' THEN 'prefer' WHEN 'prefer' THEN 'prefer' WHEN 'only' THEN 'only' ELSE 'never' END""",
    "asked_price_cap DOUBLE PRECISION": "(resources->>'max_price_per_gpu_hour')::DOUBLE PRECISION",
    "asked_nodes BIGINT": "COALESCE((distributed->>'num_nodes')::BIGINT, 1)",
    "asked_seconds BIGINT": "(limits->>'max_runtime_seconds')::BIGINT",
    "asked_retries BIGINT": "COALESCE((limits->>'max_retries')::BIGINT, 0)",
}
_BLOCKS = ("resources", "distributed", "limits")


def upgrade() -> None:
    """Move forward."""
    for statements in (_FLAVORS, _QUOTAS, _MEMORY):
        op.execute(statements)
    op.execute(f"ALTER TABLE jobs {', '.join(_added(column) for column in _ASKS)}")


def _added(column: str) -> str:
    expression = _ASKS[column]
    for block in _BLOCKS:
        expression = expression.replace(f"{block}->", f"{_LAUNCH}->'{block}'->")
    return f"ADD COLUMN {column} GENERATED ALWAYS AS ({expression}) STORED"
