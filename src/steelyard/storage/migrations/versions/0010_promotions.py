"""Aliases, transitions, approvals, gates, webhooks."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# What somebody sets: for one project, or for an organization and all its projects.
_RULES = """
    CREATE TABLE promotion_gates (
        id TEXT NOT NULL,
        project_id TEXT,
        organization_id TEXT,
        alias TEXT NOT NULL CHECK (alias IN ('dev', 'staging', 'prod')),
        gate JSONB NOT NULL,
        digest TEXT NOT NULL,
        created_by TEXT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (id),
        FOREIGN KEY(project_id) REFERENCES projects (id),
        CHECK (num_nonnulls(project_id, organization_id) = 1)
    );
    CREATE UNIQUE INDEX promotion_gates_of_projects ON promotion_gates (project_id, alias, digest)
        WHERE project_id IS NOT NULL;
    CREATE UNIQUE INDEX promotion_gates_of_organizations ON promotion_gates (organization_id, alias, digest)
        WHERE organization_id IS NOT NULL;
    CREATE TABLE approval_policies (
        id TEXT NOT NULL,
        project_id TEXT,
        organization_id TEXT,
        alias TEXT NOT NULL CHECK (alias IN ('dev', 'staging', 'prod')),
        policy JSONB NOT NULL,
        updated_by TEXT NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
        PRIMARY KEY (id),
        FOREIGN KEY(project_id) REFERENCES projects (id),
        CHECK (num_nonnulls(project_id, organization_id) = 1)
    );
    CREATE UNIQUE INDEX approval_policies_of_projects ON approval_policies (project_id, alias)
        WHERE project_id IS NOT NULL;
    CREATE UNIQUE INDEX approval_policies_of_organizations ON approval_policies (organization_id, alias)
        WHERE organization_id IS NOT NULL;
    CREATE TABLE freeze_windows (
        id TEXT NOT NULL,
        project_id TEXT,
        organization_id TEXT,
        aliases JSONB NOT NULL,
        window_spec JSONB NOT NULL,
        reason TEXT NOT NULL,
        created_by TEXT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (id),
        FOREIGN KEY(project_id) REFERENCES projects (id),
        CHECK (num_nonnulls(project_id, organization_id) = 1)
    );
    CREATE INDEX freeze_windows_of_projects ON freeze_windows (project_id);
    CREATE INDEX freeze_windows_of_organizations ON freeze_windows (organization_id);
"""

_PROMOTIONS = """
    CREATE TABLE promotions (
        id TEXT NOT NULL,
        project_id TEXT NOT NULL,
        model TEXT NOT NULL,
        version BIGINT NOT NULL,
        alias TEXT NOT NULL CHECK (alias IN ('dev', 'staging', 'prod')),
        state TEXT NOT NULL,
        message TEXT NOT NULL,
        reason TEXT NOT NULL,
        requested_by TEXT NOT NULL,
        request_id TEXT,
        request_key TEXT,
        request_digest TEXT NOT NULL,
        freeze_override_by TEXT,
        from_version BIGINT,
        alias_sequence BIGINT,
        model_digest TEXT,
        evidence JSONB NOT NULL,
        judgement JSONB,
        bound JSONB,
        binding TEXT,
        policy JSONB,
        required_approvals BIGINT NOT NULL,
        expires_at TIMESTAMP WITH TIME ZONE,
        wake_at TIMESTAMP WITH TIME ZONE,
        transition_id TEXT,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
        PRIMARY KEY (id),
        UNIQUE (project_id, request_key),
        FOREIGN KEY(project_id, model, version) REFERENCES model_versions (project_id, name, version)
    );
    CREATE UNIQUE INDEX promotions_open ON promotions (project_id, model, alias, version)
        WHERE state IN ('checking', 'awaiting_approval', 'awaiting_thaw');
    CREATE INDEX promotions_by_project ON promotions (project_id, id DESC);
    CREATE TABLE approvals (
        id TEXT NOT NULL,
        project_id TEXT NOT NULL,
        promotion_id TEXT NOT NULL,
        approver TEXT NOT NULL,
        verdict TEXT NOT NULL CHECK (verdict IN ('approve', 'reject')),
        binding TEXT NOT NULL,
        reason TEXT NOT NULL,
        roles JSONB NOT NULL,
        notes JSONB NOT NULL,
        request_id TEXT,
        at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
        PRIMARY KEY (id),
        UNIQUE (promotion_id, approver),
        FOREIGN KEY(project_id) REFERENCES projects (id),
        FOREIGN KEY(promotion_id) REFERENCES promotions (id)
    );
    CREATE TABLE model_transitions (
        id TEXT NOT NULL,
        project_id TEXT NOT NULL,
        model TEXT NOT NULL,
        alias TEXT NOT NULL CHECK (alias IN ('dev', 'staging', 'prod')),
        sequence BIGINT NOT NULL CHECK (sequence > 0),
        kind TEXT NOT NULL CHECK (kind IN ('promotion', 'rollback')),
        from_version BIGINT,
        to_version BIGINT NOT NULL,
        actor TEXT NOT NULL,
        request_id TEXT,
        request_key TEXT,
        reason TEXT NOT NULL,
        model_digest TEXT NOT NULL,
        evidence JSONB NOT NULL,
        judgement JSONB,
        approvals JSONB NOT NULL,
        promotion_id TEXT,
        notes JSONB NOT NULL,
        at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT clock_timestamp(),
        transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
        PRIMARY KEY (id),
        UNIQUE (project_id, model, alias, sequence),
        UNIQUE (project_id, request_key),
        UNIQUE (promotion_id),
        CHECK ((kind = 'promotion') = (promotion_id IS NOT NULL)),
        FOREIGN KEY(promotion_id) REFERENCES promotions (id),
        FOREIGN KEY(project_id, model, to_version) REFERENCES model_versions (project_id, name, version)
    );
    CREATE TABLE model_aliases (
        project_id TEXT NOT NULL,
        model TEXT NOT NULL,
        alias TEXT NOT NULL CHECK (alias IN ('dev', 'staging', 'prod')),
        version BIGINT NOT NULL,
        sequence BIGINT NOT NULL,
        moved_at TIMESTAMP WITH TIME ZONE NOT NULL,
        PRIMARY KEY (project_id, model, alias),
        FOREIGN KEY(project_id, model, version) REFERENCES model_versions (project_id, name, version)
    );
"""

# The platform's code judges gates and approvals. This is what stands behind it: whoever writes to these
# tables by any other way has no transition without a promotion that passed and was approved, and no move of
# an alias without its transition.
_GUARDS = """
    CREATE FUNCTION guard_transition() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        asked promotions;
        here model_aliases;
        agreed BIGINT;
        model_digest_now TEXT;
    BEGIN
        NEW.at := clock_timestamp();
        NEW.transaction := pg_current_xact_id();
        PERFORM pg_advisory_xact_lock(
            hashtextextended(NEW.project_id || '/' || NEW.model || '@' || NEW.alias, 10));
        SELECT * INTO here FROM model_aliases
        WHERE project_id = NEW.project_id AND model = NEW.model AND alias = NEW.alias;
        IF NEW.sequence <> coalesce(here.sequence, 0) + 1
            OR NEW.from_version IS DISTINCT FROM here.version
        THEN
            RAISE EXCEPTION 'the alias has moved meanwhile' USING ERRCODE = 'serialization_failure';
        END IF;
        SELECT manifest_digest INTO model_digest_now FROM model_versions
        WHERE project_id = NEW.project_id AND name = NEW.model AND version = NEW.to_version;
        IF NEW.kind = 'rollback' THEN
            IF NOT EXISTS (
                SELECT 1 FROM model_transitions
                WHERE project_id = NEW.project_id AND model = NEW.model AND alias = NEW.alias
                  AND to_version = NEW.to_version AND kind = 'promotion'
                  AND model_digest = model_digest_now
            ) THEN
                RAISE EXCEPTION 'a rollback goes to a version that the alias pointed to before'
                    USING ERRCODE = 'insufficient_privilege';
            END IF;
            RETURN NEW;
        END IF;
        SELECT * INTO asked FROM promotions WHERE id = NEW.promotion_id FOR UPDATE;
        SELECT count(DISTINCT approver) INTO agreed FROM approvals
        WHERE promotion_id = NEW.promotion_id AND verdict = 'approve' AND binding = asked.binding
          AND NEW.approvals ? id;
        IF asked.project_id <> NEW.project_id OR asked.model <> NEW.model OR asked.alias <> NEW.alias
            OR asked.version <> NEW.to_version OR asked.binding IS NULL
            OR asked.state NOT IN ('awaiting_approval', 'awaiting_thaw')
            OR asked.alias_sequence IS DISTINCT FROM coalesce(here.sequence, 0)
            OR asked.model_digest IS DISTINCT FROM model_digest_now
            OR NEW.model_digest IS DISTINCT FROM model_digest_now
            OR asked.evidence <> NEW.evidence
            OR asked.judgement ->> 'verdict' IS DISTINCT FROM 'pass'
            OR agreed < asked.required_approvals
            OR EXISTS (SELECT 1 FROM approvals
                       WHERE promotion_id = NEW.promotion_id AND verdict = 'reject')
        THEN
            RAISE EXCEPTION 'a transition needs a promotion that passed its gates and was approved'
                USING ERRCODE = 'insufficient_privilege';
        END IF;
        RETURN NEW;
    END
    $$;
    CREATE TRIGGER model_transitions_guard BEFORE INSERT ON model_transitions
        FOR EACH ROW EXECUTE FUNCTION guard_transition();
    CREATE FUNCTION guard_alias() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP IN ('DELETE', 'TRUNCATE') THEN
            RAISE EXCEPTION 'an alias is never taken away' USING ERRCODE = 'insufficient_privilege';
        END IF;
        IF NOT EXISTS (
            SELECT 1 FROM model_transitions
            WHERE project_id = NEW.project_id AND model = NEW.model AND alias = NEW.alias
              AND sequence = NEW.sequence AND to_version = NEW.version AND at = NEW.moved_at
              AND transaction = pg_current_xact_id()
        ) OR (TG_OP = 'UPDATE' AND (
            (OLD.project_id, OLD.model, OLD.alias) IS DISTINCT FROM (NEW.project_id, NEW.model, NEW.alias)
            OR OLD.sequence + 1 <> NEW.sequence
        )) THEN
            RAISE EXCEPTION 'an alias moves with a transition in the same transaction, and no other way'
                USING ERRCODE = 'insufficient_privilege';
        END IF;
        RETURN NEW;
    END
    $$;
    CREATE TRIGGER model_aliases_guard BEFORE INSERT OR UPDATE OR DELETE ON model_aliases
        FOR EACH ROW EXECUTE FUNCTION guard_alias();
    CREATE TRIGGER model_aliases_keep BEFORE TRUNCATE ON model_aliases
        FOR EACH STATEMENT EXECUTE FUNCTION guard_alias();
    CREATE FUNCTION require_move() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NOT EXISTS (
            SELECT 1 FROM model_aliases
            WHERE project_id = NEW.project_id AND model = NEW.model AND alias = NEW.alias
              AND sequence >= NEW.sequence
        ) THEN
            RAISE EXCEPTION 'a transition moves its alias in the same transaction'
                USING ERRCODE = 'check_violation';
        END IF;
        RETURN NULL;
    END
    $$;
    CREATE CONSTRAINT TRIGGER model_transitions_move AFTER INSERT ON model_transitions
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION require_move();
    CREATE FUNCTION guard_model_version() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF (OLD.project_id, OLD.name, OLD.version, OLD.job_id, OLD.run_number) IS DISTINCT FROM
           (NEW.project_id, NEW.name, NEW.version, NEW.job_id, NEW.run_number)
            OR (OLD.manifest_digest, OLD.lineage) IS DISTINCT FROM (NEW.manifest_digest, NEW.lineage)
        THEN
            RAISE EXCEPTION 'what a model version is made of never changes'
                USING ERRCODE = 'insufficient_privilege';
        END IF;
        RETURN NEW;
    END
    $$;
    CREATE TRIGGER model_versions_fixed BEFORE UPDATE ON model_versions
        FOR EACH ROW EXECUTE FUNCTION guard_model_version();
"""

_EVENTS = """
    CREATE TABLE model_events (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        project_id TEXT NOT NULL,
        model TEXT NOT NULL,
        level TEXT NOT NULL,
        type TEXT NOT NULL,
        message TEXT NOT NULL,
        data JSONB NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (id),
        FOREIGN KEY(project_id) REFERENCES projects (id)
    );
    CREATE INDEX model_events_by_model ON model_events (project_id, model, id);
    CREATE TABLE webhooks (
        id TEXT NOT NULL,
        project_id TEXT NOT NULL,
        url TEXT NOT NULL,
        events JSONB NOT NULL,
        created_by TEXT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (id),
        FOREIGN KEY(project_id) REFERENCES projects (id)
    );
    CREATE INDEX webhooks_by_project ON webhooks (project_id);
    CREATE TABLE webhook_deliveries (
        id TEXT NOT NULL,
        project_id TEXT NOT NULL,
        webhook_id TEXT NOT NULL,
        event_id BIGINT NOT NULL,
        type TEXT NOT NULL,
        body JSONB NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'failed')),
        tries BIGINT NOT NULL,
        last_status BIGINT,
        last_error TEXT,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        ended_at TIMESTAMP WITH TIME ZONE,
        PRIMARY KEY (id),
        FOREIGN KEY(project_id) REFERENCES projects (id),
        FOREIGN KEY(webhook_id) REFERENCES webhooks (id) ON DELETE CASCADE
    );
    CREATE INDEX webhook_deliveries_by_webhook ON webhook_deliveries (webhook_id, id DESC);
"""

# As in 0002: not even session_replication_role = replica passes them by, and the owner gives up its rights.
_RIGHTS = """
    CREATE TRIGGER model_transitions_append_only BEFORE UPDATE OR DELETE ON model_transitions
        FOR EACH ROW EXECUTE FUNCTION refuse_change();
    CREATE TRIGGER model_transitions_keep BEFORE TRUNCATE ON model_transitions
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
    CREATE TRIGGER approvals_append_only BEFORE UPDATE OR DELETE ON approvals
        FOR EACH ROW EXECUTE FUNCTION refuse_change();
    CREATE TRIGGER approvals_keep BEFORE TRUNCATE ON approvals
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
    ALTER TABLE model_transitions ENABLE ALWAYS TRIGGER model_transitions_guard;
    ALTER TABLE model_transitions ENABLE ALWAYS TRIGGER model_transitions_move;
    ALTER TABLE model_transitions ENABLE ALWAYS TRIGGER model_transitions_append_only;
    ALTER TABLE model_transitions ENABLE ALWAYS TRIGGER model_transitions_keep;
    ALTER TABLE approvals ENABLE ALWAYS TRIGGER approvals_append_only;
    ALTER TABLE approvals ENABLE ALWAYS TRIGGER approvals_keep;
    ALTER TABLE model_aliases ENABLE ALWAYS TRIGGER model_aliases_guard;
    ALTER TABLE model_aliases ENABLE ALWAYS TRIGGER model_aliases_keep;
    ALTER TABLE model_versions ENABLE ALWAYS TRIGGER model_versions_fixed;
    REVOKE ALL ON model_transitions, approvals, model_aliases FROM PUBLIC;
    REVOKE UPDATE, DELETE, TRUNCATE ON model_transitions, approvals FROM CURRENT_USER;
    REVOKE DELETE, TRUNCATE ON model_aliases FROM CURRENT_USER;
"""


def upgrade() -> None:
    """Move forward."""
    for statements in (_RULES, _PROMOTIONS, _GUARDS, _EVENTS, _RIGHTS):
        op.execute(statements)
