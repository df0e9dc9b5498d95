"""A role of the workers' own: it owns nothing, so it changes neither tables nor what is written for ever.

`<owner>_worker` sees the rows of all projects, by a policy on each walled table. It writes what workers do.
Who may do what, what they may spend, and what was approved are the api's to write; workers only read them.
Migrations alone run as the owner.
"""

from alembic import op

revision = "0021"
down_revision = "0016"
branch_labels = None
depends_on = None

_ROLE = """
    CREATE FUNCTION worker_role() RETURNS name LANGUAGE sql STABLE AS $$
        SELECT (rolname || '_worker')::name FROM pg_class JOIN pg_roles ON pg_roles.oid = relowner
        WHERE pg_class.oid = 'public.projects'::regclass
    $$;
    DO $$
    DECLARE
        wanted name := current_user || '_worker';
    BEGIN
        IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            EXCEPTION
                WHEN duplicate_object OR unique_violation THEN NULL;
                WHEN insufficient_privilege THEN
                    RAISE EXCEPTION 'role % is missing and % may not make it; let a superuser run: '
                        'CREATE ROLE %I NOLOGIN; GRANT %I TO %I', wanted, current_user, wanted, wanted,
                        current_user USING ERRCODE = 'insufficient_privilege';
            END;
        END IF;
        IF NOT pg_has_role(current_user, wanted,
            CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END)
        THEN
            EXECUTE format('GRANT %I TO CURRENT_USER', wanted);
        END IF;
        PERFORM grant_application(wanted);
        EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA public '
            'GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO %I', wanted);
        EXECUTE format('REVOKE ALL ON alembic_version FROM %I', wanted);
    END
    $$;
"""

# A secret's value is the api's to write; a rotation of keys wraps its data key anew.
_READ_ALONE = """
    DO $$
    BEGIN
        EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON organizations, projects, principals, '
            'principal_groups, organization_members, project_members, group_mappings, api_tokens, budgets, '
            'quotas, project_shares, pool_settings, secrets, approvals, approval_policies, '
            'promotion_gates, freeze_windows, webhooks FROM %I', worker_role());
        EXECUTE format('GRANT UPDATE (key_id, wrapped_key) ON secrets TO %I', worker_role());
        EXECUTE format('REVOKE UPDATE, DELETE ON flavors FROM %I', worker_role());
    END
    $$;
"""

# Default privileges gave the api more on tables that came after 0011 than their triggers let it have.
_APPEND_ONLY = """
    DO $$
    DECLARE
        kept regclass;
    BEGIN
        FOR kept IN SELECT DISTINCT tgrelid::regclass FROM pg_trigger WHERE tgfoid = 'refuse_change'::regproc
        LOOP
            EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON %s FROM %I, %I', kept, api_role(),
                worker_role());
        END LOOP;
    END
    $$;
"""

_SIGHT = """
    CREATE FUNCTION let_workers_see(walled regclass) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        EXECUTE format('CREATE POLICY of_workers ON %s TO %I USING (true) WITH CHECK (true)', walled,
            worker_role());
    END
    $$;
    ALTER FUNCTION wall_off(regclass, name) RENAME TO wall_off_from_the_api;
    CREATE FUNCTION wall_off(walled regclass, project_column name DEFAULT 'project_id') RETURNS void
    LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM wall_off_from_the_api(walled, project_column);
        PERFORM let_workers_see(walled);
    END
    $$;
    SELECT let_workers_see(oid::regclass) FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND relrowsecurity;
"""


def upgrade() -> None:
    """Move forward."""
    for statements in (_ROLE, _READ_ALONE, _APPEND_ONLY, _SIGHT):
        op.execute(statements)
