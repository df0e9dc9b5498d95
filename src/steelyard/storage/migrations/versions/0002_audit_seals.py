"""Seal the audit trail: outcomes, each row's transaction, leaves and seals, no right to change any."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# A reader sees ids out of order, because the earlier of two transactions may commit later. Below the oldest
# transaction that still runs nothing new can appear, so rows are sealed up to there, by transaction and id.
_COLUMNS = """
    ALTER TABLE audit_log
        ADD COLUMN outcome TEXT NOT NULL DEFAULT 'accepted' CHECK (outcome IN ('accepted', 'refused')),
        ADD COLUMN transaction xid8 NOT NULL DEFAULT pg_current_xact_id();
    CREATE INDEX audit_in_sealing_order ON audit_log (transaction, id);
    CREATE INDEX audit_by_actor ON audit_log (actor, id);
    CREATE INDEX audit_by_verb ON audit_log (verb, id);
"""

# Nobody who inserts chooses a row's moment or its place in the order.
_STAMP = """
    CREATE FUNCTION stamp_audit_row() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.at := now();
        NEW.transaction := pg_current_xact_id();
        RETURN NEW;
    END
    $$;
    CREATE TRIGGER audit_log_stamp BEFORE INSERT ON audit_log
        FOR EACH ROW EXECUTE FUNCTION stamp_audit_row();
"""

_SEALS = """
    CREATE TABLE audit_leaves (
        position BIGINT NOT NULL,
        row_id BIGINT NOT NULL,
        leaf BYTEA NOT NULL,
        link BYTEA NOT NULL,
        PRIMARY KEY (position),
        UNIQUE (row_id)
    );
    CREATE TABLE audit_seals (
        size BIGINT NOT NULL,
        sealed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        root BYTEA NOT NULL,
        link BYTEA NOT NULL,
        frontier BYTEA NOT NULL,
        last_transaction xid8 NOT NULL,
        last_row_id BIGINT NOT NULL,
        note TEXT NOT NULL,
        PRIMARY KEY (size)
    );
    CREATE TRIGGER audit_leaves_append_only BEFORE UPDATE OR DELETE ON audit_leaves
        FOR EACH ROW EXECUTE FUNCTION refuse_change();
    CREATE TRIGGER audit_leaves_keep BEFORE TRUNCATE ON audit_leaves
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
    CREATE TRIGGER audit_seals_append_only BEFORE UPDATE OR DELETE ON audit_seals
        FOR EACH ROW EXECUTE FUNCTION refuse_change();
    CREATE TRIGGER audit_seals_keep BEFORE TRUNCATE ON audit_seals
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""

# ALWAYS: not even a session with session_replication_role = replica passes them by. The owner gives up its
# own rights too, so that a platform which connects as the owner is refused before any trigger runs.
_RIGHTS = """
    ALTER TABLE audit_log ENABLE ALWAYS TRIGGER audit_log_append_only;
    ALTER TABLE audit_log ENABLE ALWAYS TRIGGER audit_log_keep;
    ALTER TABLE audit_log ENABLE ALWAYS TRIGGER audit_log_stamp;
    ALTER TABLE audit_leaves ENABLE ALWAYS TRIGGER audit_leaves_append_only;
    ALTER TABLE audit_leaves ENABLE ALWAYS TRIGGER audit_leaves_keep;
    ALTER TABLE audit_seals ENABLE ALWAYS TRIGGER audit_seals_append_only;
    ALTER TABLE audit_seals ENABLE ALWAYS TRIGGER audit_seals_keep;
    REVOKE ALL ON audit_log, audit_leaves, audit_seals FROM PUBLIC;
    REVOKE UPDATE, DELETE, TRUNCATE ON audit_log, audit_leaves, audit_seals FROM CURRENT_USER;
"""

# For an installation whose platform connects as a role that owns nothing: everything but the trail in full.
_GRANT = """
    CREATE FUNCTION grant_application(application name) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', application);
        EXECUTE format(
            'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO %I', application);
        EXECUTE format('GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO %I', application);
        EXECUTE format(
            'REVOKE UPDATE, DELETE, TRUNCATE ON audit_log, audit_leaves, audit_seals FROM %I', application);
    END
    $$;
    REVOKE ALL ON FUNCTION grant_application(name) FROM PUBLIC;
"""


def upgrade() -> None:
    for statements in (_COLUMNS, _STAMP, _SEALS, _RIGHTS, _GRANT):
        op.execute(statements)
