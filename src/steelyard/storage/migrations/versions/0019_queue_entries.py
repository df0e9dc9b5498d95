"""The queue in a narrow table: a short row for each job, kept by triggers in the transactions that change it.

A round reads it in place of `jobs`, whose rows are kilobytes wide. `changed` is the transaction that wrote
the row last, so who has read the queue once reads what has changed since: what a snapshot didn't see was
written by a transaction that is not older than the snapshot's `xmin`. No row is ever deleted, so none is
missed.

The functions run as the owner: neither api nor workers may write these rows themselves.
"""

from alembic import op

revision = "0019"
down_revision = "0021"
branch_labels = None
depends_on = None

_TABLE = """
    CREATE TABLE queue_entries (
        job_id TEXT NOT NULL,
        project_id TEXT NOT NULL,
        wants BOOLEAN NOT NULL,
        places BIGINT NOT NULL DEFAULT 0,
        lane TEXT NOT NULL,
        moment DOUBLE PRECISION NOT NULL,
        way_for TEXT[] NOT NULL DEFAULT '{}',
        status_reason TEXT,
        changed XID8 NOT NULL DEFAULT pg_current_xact_id(),
        PRIMARY KEY (job_id),
        FOREIGN KEY(job_id) REFERENCES jobs (id)
    );
    CREATE INDEX queue_entries_waiting ON queue_entries (job_id) WHERE wants AND places = 0;
    CREATE INDEX queue_entries_changed ON queue_entries (changed);
    CREATE INDEX attempts_preempted ON attempts (job_id) WHERE cause = 'preempted';
    -- Room on each page, so that telling a job why it waits touches none of the table's indexes.
    ALTER TABLE jobs SET (fillfactor = 70);
    SELECT wall_off('queue_entries');
    DO $$
    BEGIN
        EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON queue_entries FROM %I, %I', api_role(),
            worker_role());
    END
    $$;
"""

_WHAT_A_JOB_WAITS_WITH = """
    CREATE FUNCTION queue_lane(job jobs) RETURNS TEXT LANGUAGE sql STABLE AS $$
        SELECT json_build_array(job.project_id, job.priority, job.asked_gpus, job.asked_cpus,
            job.asked_memory_bytes, job.asked_nodes, job.asked_flavors::json, job.asked_spot,
            job.asked_price_cap,
            CASE WHEN job.running_seconds = 0 THEN job.asked_seconds
                ELSE GREATEST(1, job.asked_seconds - job.running_seconds) END,
            job.asked_retries BETWEEN 1 AND job.retries_used, job.running_seconds)::TEXT
    $$;
    CREATE FUNCTION queue_moment(job jobs) RETURNS DOUBLE PRECISION LANGUAGE sql STABLE AS $$
        SELECT EXTRACT(EPOCH FROM CASE WHEN job.command_sequence = 0 THEN job.created_at
            ELSE COALESCE(job.queued_at, job.created_at) END)::DOUBLE PRECISION
    $$;
    CREATE FUNCTION queue_way_for(job TEXT) RETURNS TEXT[] LANGUAGE sql STABLE AS $$
        SELECT COALESCE(array_agg(for_job_id ORDER BY for_job_id COLLATE "C"), '{}') FROM preemptions
        WHERE job_id = job
    $$;
    INSERT INTO queue_entries (job_id, project_id, wants, places, lane, moment, way_for, status_reason)
    SELECT job.id, job.project_id, job.state = 'queued' AND job.desired = 'run',
        (SELECT count(*) FROM allocations WHERE job_id = job.id), queue_lane(job), queue_moment(job),
        queue_way_for(job.id), job.status_reason
    FROM jobs job;
"""

# Each trigger runs in a transaction that holds the job's row, and so one after the other for one job.
_TRIGGERS = """
    CREATE FUNCTION note_queued_job() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp AS $$
    BEGIN
        INSERT INTO queue_entries (job_id, project_id, wants, lane, moment, way_for, status_reason)
        VALUES (NEW.id, NEW.project_id, NEW.state = 'queued' AND NEW.desired = 'run', queue_lane(NEW),
            queue_moment(NEW), queue_way_for(NEW.id), NEW.status_reason)
        ON CONFLICT (job_id) DO UPDATE SET wants = excluded.wants, lane = excluded.lane,
            moment = excluded.moment, way_for = excluded.way_for, status_reason = excluded.status_reason,
            changed = pg_current_xact_id();
        RETURN NULL;
    END
    $$;
    CREATE TRIGGER jobs_note_new AFTER INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION note_queued_job();
    CREATE TRIGGER jobs_note_queued AFTER UPDATE ON jobs FOR EACH ROW
    WHEN ((OLD.state = 'queued' OR NEW.state = 'queued') AND (
        OLD.state, OLD.desired, OLD.priority, OLD.running_seconds, OLD.retries_used, OLD.command_sequence,
        OLD.queued_at, OLD.created_at, OLD.spec
    ) IS DISTINCT FROM (
        NEW.state, NEW.desired, NEW.priority, NEW.running_seconds, NEW.retries_used, NEW.command_sequence,
        NEW.queued_at, NEW.created_at, NEW.spec
    ))
    EXECUTE FUNCTION note_queued_job();

    CREATE FUNCTION note_reason() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp AS $$
    BEGIN
        UPDATE queue_entries SET status_reason = NEW.status_reason, changed = pg_current_xact_id()
        WHERE job_id = NEW.id;
        RETURN NULL;
    END
    $$;
    CREATE TRIGGER jobs_note_reason AFTER UPDATE OF status_reason ON jobs FOR EACH ROW
    WHEN (NEW.state = 'queued' AND OLD.status_reason IS DISTINCT FROM NEW.status_reason)
    EXECUTE FUNCTION note_reason();

    CREATE FUNCTION note_places() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp AS $$
    BEGIN
        UPDATE queue_entries entry SET changed = pg_current_xact_id(),
            places = entry.places + CASE TG_OP WHEN 'INSERT' THEN moved.places ELSE -moved.places END
        FROM (SELECT job_id, count(*) AS places FROM touched GROUP BY job_id) moved
        WHERE entry.job_id = moved.job_id;
        RETURN NULL;
    END
    $$;
    CREATE TRIGGER allocations_note_given AFTER INSERT ON allocations
    REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION note_places();
    CREATE TRIGGER allocations_note_left AFTER DELETE ON allocations
    REFERENCING OLD TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION note_places();

    CREATE FUNCTION note_way() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp AS $$
    BEGIN
        UPDATE queue_entries entry SET changed = pg_current_xact_id(), way_for = queue_way_for(entry.job_id)
        FROM (SELECT DISTINCT job_id FROM touched) made WHERE entry.job_id = made.job_id;
        RETURN NULL;
    END
    $$;
    CREATE TRIGGER preemptions_note_way AFTER INSERT ON preemptions
    REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION note_way();
"""


def upgrade() -> None:
    """Move forward."""
    for statements in (_TABLE, _WHAT_A_JOB_WAITS_WITH, _TRIGGERS):
        op.execute(statements)
