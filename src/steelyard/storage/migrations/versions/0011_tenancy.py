"""Row-level security on every table that has a project.

The second wall. The first is `governance.access`, which every request passes; this one stands behind queries
that forget to name their project. The api connects as a role that owns nothing, `<owner>_api`. It sees the
rows of the project that was checked, and of no other:

- `steelyard.project`: rows of this project, to read and to write.
- `steelyard.project_organization`: rules that the project's organization has set for all its projects.
- `steelyard.organization`: rows of all projects of an organization, to read; its own rules, to write.
- `steelyard.installation`: `read` or `write`, all rows.

Each lasts for a transaction. Workers, dispatcher and sealer connect as the owner and see everything; that is
why no table forces its policies upon its owner.
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_ROLE = """
    CREATE FUNCTION api_role() RETURNS name LANGUAGE sql STABLE AS $$
        SELECT (rolname || '_api')::name FROM pg_class JOIN pg_roles ON pg_roles.oid = relowner
        WHERE pg_class.oid = 'public.projects'::regclass
    $$;
    DO $$
    DECLARE
        wanted name := current_user || '_api';
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
        EXECUTE format('REVOKE SELECT, UPDATE, DELETE ON outbox FROM %I', wanted);
        EXECUTE format('GRANT SELECT (id) ON outbox TO %I', wanted);
    END
    $$;
"""

# Settings are read in subqueries, so once for a query and not once for a row.
_WALL = """
    CREATE FUNCTION wall_off(walled regclass, project_column name DEFAULT 'project_id') RETURNS void
    LANGUAGE plpgsql AS $body$
    DECLARE
        has_organization BOOLEAN := EXISTS (
            SELECT 1 FROM pg_attribute
            WHERE attrelid = walled AND attname = 'organization_id' AND NOT attisdropped);
    BEGIN
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', walled);
        EXECUTE format($$CREATE POLICY of_project ON %s
            USING (%I = (SELECT current_setting('steelyard.project', true)))$$, walled, project_column);
        EXECUTE format($$CREATE POLICY of_installation ON %s FOR SELECT
            USING ((SELECT current_setting('steelyard.installation', true)) IN ('read', 'write'))$$, walled);
        EXECUTE format($$CREATE POLICY of_installation_to_write ON %s
            USING ((SELECT current_setting('steelyard.installation', true)) = 'write')$$, walled);
        IF has_organization THEN
            EXECUTE format($$CREATE POLICY of_organization_to_write ON %s
                USING (organization_id = (SELECT current_setting('steelyard.organization', true)))$$, walled);
            EXECUTE format($$CREATE POLICY of_project_organization ON %s FOR SELECT
                USING (%I IS NULL AND organization_id
                       = (SELECT current_setting('steelyard.project_organization', true)))$$,
                walled, project_column);
        END IF;
        IF walled <> 'projects'::regclass THEN
            EXECUTE format($$CREATE POLICY of_organization ON %s FOR SELECT
                USING (%I IN (SELECT id FROM projects WHERE organization_id
                              = (SELECT current_setting('steelyard.organization', true))))$$,
                walled, project_column);
        END IF;
    END
    $body$;
    DO $$
    DECLARE
        walled regclass;
    BEGIN
        PERFORM wall_off('projects', 'id');
        FOR walled IN
            SELECT pg_class.oid::regclass FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
            WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
              AND attname = 'project_id' AND NOT attisdropped
        LOOP
            PERFORM wall_off(walled);
        END LOOP;
    END
    $$;
    CREATE POLICY anybody_appends ON audit_log FOR INSERT WITH CHECK (true);
"""

_ATTEMPTS = """
    CREATE FUNCTION project_of_attempt(attempt TEXT) RETURNS TEXT
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
        SELECT project_id FROM attempts WHERE id = attempt
    $$;
"""


def upgrade() -> None:
    """Move forward."""
    for statements in (_ROLE, _WALL, _ATTEMPTS):
        op.execute(statements)
