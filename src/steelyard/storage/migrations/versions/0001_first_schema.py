"""The first schema: projects, jobs, attempts, pool, outbox, audit, registry."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = [
    """
    CREATE TABLE audit_log (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        actor TEXT NOT NULL,
        verb TEXT NOT NULL,
        object_kind TEXT NOT NULL,
        object_id TEXT NOT NULL,
        project_id TEXT,
        request_id TEXT,
        source TEXT,
        before_digest TEXT,
        after_digest TEXT,
        detail JSONB NOT NULL,
        PRIMARY KEY (id)
    )
    """,
    """
    CREATE INDEX audit_by_object ON audit_log (object_id, id)
    """,
    """
    CREATE INDEX audit_by_project ON audit_log (project_id, id)
    """,
    """
    CREATE TABLE nodes (
        name TEXT NOT NULL,
        executor TEXT NOT NULL,
        flavor TEXT NOT NULL,
        spot BOOLEAN NOT NULL,
        cpus BIGINT NOT NULL,
        memory_bytes BIGINT NOT NULL,
        gpu_ids JSONB NOT NULL,
        last_seen_at TIMESTAMP WITH TIME ZONE NOT NULL,
        PRIMARY KEY (name)
    )
    """,
    """
    CREATE TABLE outbox (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        topic TEXT NOT NULL,
        key TEXT NOT NULL,
        payload JSONB NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        available_at TIMESTAMP WITH TIME ZONE NOT NULL,
        tries BIGINT NOT NULL,
        last_error TEXT,
        PRIMARY KEY (id)
    )
    """,
    """
    CREATE INDEX outbox_due ON outbox (available_at, id)
    """,
    """
    CREATE TABLE projects (
        id TEXT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (id)
    )
    """,
    """
    CREATE TABLE idempotency_keys (
        project_id TEXT NOT NULL,
        key TEXT NOT NULL,
        body_digest TEXT NOT NULL,
        job_id TEXT NOT NULL,
        response TEXT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (project_id, key),
        FOREIGN KEY(project_id) REFERENCES projects (id)
    )
    """,
    """
    CREATE TABLE datasets (
        project_id TEXT NOT NULL,
        name TEXT NOT NULL,
        latest_version BIGINT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (project_id, name),
        FOREIGN KEY(project_id) REFERENCES projects (id)
    )
    """,
    """
    CREATE TABLE dataset_versions (
        project_id TEXT NOT NULL,
        name TEXT NOT NULL,
        version BIGINT NOT NULL,
        digest TEXT NOT NULL,
        format TEXT NOT NULL,
        rows_train BIGINT NOT NULL,
        rows_validation BIGINT NOT NULL,
        manifest JSONB NOT NULL,
        created_by TEXT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (project_id, name, version),
        UNIQUE (project_id, name, digest),
        FOREIGN KEY(project_id) REFERENCES projects (id)
    )
    """,
    """
    CREATE TABLE uploads (
        id TEXT NOT NULL,
        project_id TEXT NOT NULL,
        filename TEXT NOT NULL,
        size_bytes BIGINT NOT NULL,
        digest TEXT NOT NULL,
        created_by TEXT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (id),
        FOREIGN KEY(project_id) REFERENCES projects (id)
    )
    """,
    """
    CREATE TABLE ingests (
        id TEXT NOT NULL,
        project_id TEXT NOT NULL,
        name TEXT NOT NULL,
        state TEXT NOT NULL,
        uploads JSONB NOT NULL,
        spec JSONB NOT NULL,
        progress JSONB NOT NULL,
        error JSONB NOT NULL,
        version BIGINT,
        created BOOLEAN,
        created_by TEXT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (id),
        FOREIGN KEY(project_id) REFERENCES projects (id)
    )
    """,
    """
    CREATE TABLE jobs (
        id TEXT NOT NULL,
        project_id TEXT NOT NULL,
        name TEXT NOT NULL,
        type TEXT NOT NULL,
        state TEXT NOT NULL,
        status_reason TEXT,
        status_message TEXT,
        priority BIGINT NOT NULL,
        spec JSONB NOT NULL,
        lineage JSONB NOT NULL,
        tags JSONB NOT NULL,
        desired TEXT NOT NULL,
        command_sequence BIGINT NOT NULL,
        run_number BIGINT NOT NULL,
        epoch BIGINT NOT NULL,
        stage TEXT NOT NULL,
        attempts_count BIGINT NOT NULL,
        retries_used BIGINT NOT NULL,
        evictions BIGINT NOT NULL,
        running_seconds FLOAT NOT NULL,
        current_attempt_id TEXT,
        resume_checkpoint_id TEXT,
        progress JSONB NOT NULL,
        metrics JSONB NOT NULL,
        prepared JSONB NOT NULL,
        model_dir TEXT,
        mlflow_run_id TEXT,
        created_by TEXT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        queued_at TIMESTAMP WITH TIME ZONE,
        started_at TIMESTAMP WITH TIME ZONE,
        ended_at TIMESTAMP WITH TIME ZONE,
        PRIMARY KEY (id),
        FOREIGN KEY(project_id) REFERENCES projects (id)
    )
    """,
    """
    CREATE INDEX jobs_by_project ON jobs (project_id, id DESC)
    """,
    """
    CREATE INDEX jobs_by_state ON jobs (project_id, state, id DESC)
    """,
    """
    CREATE INDEX jobs_by_tag ON jobs USING gin (tags)
    """,
    """
    CREATE INDEX jobs_live ON jobs (project_id, state) WHERE state NOT IN ('succeeded', 'failed', 'cancelled')
    """,
    """
    CREATE INDEX jobs_queued ON jobs (priority DESC, id) WHERE state = 'queued'
    """,
    """
    CREATE TABLE models (
        project_id TEXT NOT NULL,
        name TEXT NOT NULL,
        latest_version BIGINT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (project_id, name),
        FOREIGN KEY(project_id) REFERENCES projects (id)
    )
    """,
    """
    CREATE TABLE allocations (
        job_id TEXT NOT NULL,
        node TEXT NOT NULL,
        project_id TEXT NOT NULL,
        run_number BIGINT NOT NULL,
        cpus BIGINT NOT NULL,
        memory_bytes BIGINT NOT NULL,
        gpu_ids JSONB NOT NULL,
        granted_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (job_id, node),
        FOREIGN KEY(job_id) REFERENCES jobs (id),
        FOREIGN KEY(project_id) REFERENCES projects (id)
    )
    """,
    """
    CREATE TABLE attempts (
        id TEXT NOT NULL,
        project_id TEXT NOT NULL,
        job_id TEXT NOT NULL,
        number BIGINT NOT NULL,
        launch_key TEXT NOT NULL,
        stage TEXT NOT NULL,
        epoch BIGINT NOT NULL,
        state TEXT NOT NULL,
        executor TEXT NOT NULL,
        node TEXT,
        pid BIGINT,
        attempt_dir TEXT NOT NULL,
        resumed_from_step BIGINT,
        resumed_checkpoint_path TEXT,
        first_step BIGINT,
        last_step BIGINT NOT NULL,
        phase TEXT,
        total_steps BIGINT,
        loss FLOAT,
        tokens_per_second FLOAT,
        eta_seconds FLOAT,
        stop_reason TEXT,
        checkpoint_requested BOOLEAN NOT NULL,
        cause TEXT,
        message TEXT,
        counted BOOLEAN NOT NULL,
        gpus BIGINT NOT NULL,
        outcome JSONB,
        started_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        ended_at TIMESTAMP WITH TIME ZONE,
        last_report_at TIMESTAMP WITH TIME ZONE,
        lease_expires_at TIMESTAMP WITH TIME ZONE,
        PRIMARY KEY (id),
        UNIQUE (job_id, number),
        UNIQUE (job_id, launch_key),
        FOREIGN KEY(project_id) REFERENCES projects (id),
        FOREIGN KEY(job_id) REFERENCES jobs (id)
    )
    """,
    """
    CREATE INDEX attempts_live ON attempts (state) WHERE state <> 'ended'
    """,
    """
    CREATE TABLE checkpoints (
        id TEXT NOT NULL,
        project_id TEXT NOT NULL,
        job_id TEXT NOT NULL,
        attempt_id TEXT NOT NULL,
        attempt_number BIGINT NOT NULL,
        epoch BIGINT NOT NULL,
        step BIGINT NOT NULL,
        path TEXT NOT NULL,
        manifest_digest TEXT NOT NULL,
        size_bytes BIGINT NOT NULL,
        status TEXT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (id),
        UNIQUE (job_id, path),
        FOREIGN KEY(project_id) REFERENCES projects (id),
        FOREIGN KEY(job_id) REFERENCES jobs (id)
    )
    """,
    """
    CREATE INDEX checkpoints_by_job ON checkpoints (job_id, epoch DESC, step DESC)
    """,
    """
    CREATE TABLE events (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        project_id TEXT NOT NULL,
        job_id TEXT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        level TEXT NOT NULL,
        type TEXT NOT NULL,
        message TEXT NOT NULL,
        data JSONB NOT NULL,
        PRIMARY KEY (id),
        FOREIGN KEY(project_id) REFERENCES projects (id),
        FOREIGN KEY(job_id) REFERENCES jobs (id)
    )
    """,
    """
    CREATE INDEX events_by_job ON events (job_id, id)
    """,
    """
    CREATE TABLE model_versions (
        project_id TEXT NOT NULL,
        name TEXT NOT NULL,
        version BIGINT NOT NULL,
        job_id TEXT NOT NULL,
        run_number BIGINT NOT NULL,
        path TEXT NOT NULL,
        manifest_digest TEXT NOT NULL,
        lineage JSONB NOT NULL,
        metrics JSONB NOT NULL,
        mlflow_version TEXT,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (project_id, name, version),
        UNIQUE (job_id, run_number),
        FOREIGN KEY(project_id) REFERENCES projects (id),
        FOREIGN KEY(job_id) REFERENCES jobs (id)
    )
    """,
]

_APPEND_ONLY = """
    CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
    END
    $$;
    CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE ON audit_log
        FOR EACH ROW EXECUTE FUNCTION refuse_change();
    CREATE TRIGGER audit_log_keep BEFORE TRUNCATE ON audit_log
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""


def upgrade() -> None:
    for statement in _TABLES:
        op.execute(statement)
    op.execute(_APPEND_ONLY)
    op.execute("INSERT INTO projects (id) VALUES ('default')")
