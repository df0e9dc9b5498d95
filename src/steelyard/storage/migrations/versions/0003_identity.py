"""Organizations, users, service accounts, tokens, roles."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ORGANIZATIONS = """
    CREATE TABLE organizations (
        id TEXT NOT NULL,
        display_name TEXT NOT NULL,
        number BIGINT GENERATED ALWAYS AS IDENTITY,
        created_by TEXT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (id),
        UNIQUE (number)
    );
    INSERT INTO organizations (id, display_name, created_by) VALUES ('default', 'default', 'system');
    ALTER TABLE projects
        ADD COLUMN organization_id TEXT NOT NULL DEFAULT 'default' REFERENCES organizations (id),
        ADD COLUMN display_name TEXT NOT NULL DEFAULT '',
        ADD COLUMN created_by TEXT NOT NULL DEFAULT 'system',
        ADD COLUMN archived_at TIMESTAMP WITH TIME ZONE;
    CREATE INDEX projects_by_organization ON projects (organization_id, id);
"""

# The id is the name that rows of the past bear, so it is never given to anybody else: rows stay for ever.
_PRINCIPALS = """
    CREATE TABLE principals (
        id TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('user', 'service_account')),
        organization_id TEXT,
        email TEXT,
        display_name TEXT NOT NULL,
        issuer TEXT,
        subject TEXT,
        created_by TEXT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        disabled_at TIMESTAMP WITH TIME ZONE,
        deleted_at TIMESTAMP WITH TIME ZONE,
        last_login_at TIMESTAMP WITH TIME ZONE,
        sessions_valid_from TIMESTAMP WITH TIME ZONE DEFAULT to_timestamp(0) NOT NULL,
        PRIMARY KEY (id),
        UNIQUE (issuer, subject),
        FOREIGN KEY(organization_id) REFERENCES organizations (id),
        CHECK ((kind = 'service_account') = (organization_id IS NOT NULL)),
        CHECK (subject IS NULL OR issuer IS NOT NULL)
    );
    CREATE INDEX principals_by_email ON principals (lower(email));
    INSERT INTO principals (id, kind, display_name, created_by)
        VALUES ('admin', 'user', 'local administrator', 'system');
    CREATE TABLE principal_groups (
        principal_id TEXT NOT NULL,
        issuer TEXT NOT NULL,
        group_name TEXT NOT NULL,
        PRIMARY KEY (principal_id, issuer, group_name),
        FOREIGN KEY(principal_id) REFERENCES principals (id)
    );
"""

_ROLES = """
    CREATE TABLE organization_members (
        organization_id TEXT NOT NULL,
        principal_id TEXT NOT NULL,
        role TEXT NOT NULL CHECK (role IN ('owner', 'auditor')),
        granted_by TEXT NOT NULL,
        granted_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (organization_id, principal_id, role),
        FOREIGN KEY(organization_id) REFERENCES organizations (id),
        FOREIGN KEY(principal_id) REFERENCES principals (id)
    );
    CREATE INDEX organization_members_by_principal ON organization_members (principal_id);
    CREATE TABLE project_members (
        project_id TEXT NOT NULL,
        principal_id TEXT NOT NULL,
        role TEXT NOT NULL CHECK (role IN ('viewer', 'developer', 'approver', 'admin')),
        granted_by TEXT NOT NULL,
        granted_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (project_id, principal_id, role),
        FOREIGN KEY(project_id) REFERENCES projects (id),
        FOREIGN KEY(principal_id) REFERENCES principals (id)
    );
    CREATE INDEX project_members_by_principal ON project_members (principal_id);
    CREATE TABLE group_mappings (
        id TEXT NOT NULL,
        issuer TEXT NOT NULL,
        group_name TEXT NOT NULL,
        organization_id TEXT NOT NULL,
        project_id TEXT,
        role TEXT NOT NULL,
        created_by TEXT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (id),
        UNIQUE NULLS NOT DISTINCT (issuer, group_name, organization_id, project_id, role),
        FOREIGN KEY(organization_id) REFERENCES organizations (id),
        FOREIGN KEY(project_id) REFERENCES projects (id),
        CHECK (CASE WHEN project_id IS NULL THEN role IN ('owner', 'auditor')
               ELSE role IN ('viewer', 'developer', 'approver', 'admin') END)
    );
    CREATE INDEX group_mappings_by_organization ON group_mappings (organization_id);
"""

_TOKENS = """
    CREATE TABLE api_tokens (
        id TEXT NOT NULL,
        principal_id TEXT NOT NULL,
        name TEXT NOT NULL,
        digest BYTEA NOT NULL CHECK (length(digest) = 32),
        projects TEXT[],
        permissions TEXT[],
        created_by TEXT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        expires_at TIMESTAMP WITH TIME ZONE,
        revoked_at TIMESTAMP WITH TIME ZONE,
        last_used_at TIMESTAMP WITH TIME ZONE,
        PRIMARY KEY (id),
        UNIQUE (digest),
        FOREIGN KEY(principal_id) REFERENCES principals (id)
    );
    CREATE INDEX api_tokens_by_principal ON api_tokens (principal_id, id);
    CREATE FUNCTION guard_api_token() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF (to_jsonb(NEW) - 'revoked_at' - 'last_used_at') <> (to_jsonb(OLD) - 'revoked_at' - 'last_used_at')
            OR (OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS DISTINCT FROM OLD.revoked_at)
        THEN
            RAISE EXCEPTION 'a token is revoked, never changed' USING ERRCODE = 'insufficient_privilege';
        END IF;
        RETURN NEW;
    END
    $$;
    CREATE TRIGGER api_tokens_fixed BEFORE UPDATE ON api_tokens
        FOR EACH ROW EXECUTE FUNCTION guard_api_token();
"""

# One call answers all that a decision needs. They run with their owner's rights, because whoever asks has no
# project yet, and so sees no row of any.
_STANDING = """
    CREATE FUNCTION roles_in_organization(organization TEXT, principal TEXT) RETURNS TEXT[]
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
        SELECT ARRAY(
            SELECT role FROM organization_members
            WHERE organization_id = organization AND principal_id = principal
            UNION
            SELECT mapping.role FROM principal_groups JOIN group_mappings mapping USING (issuer, group_name)
            WHERE principal_groups.principal_id = principal
              AND mapping.organization_id = organization AND mapping.project_id IS NULL)
    $$;
    CREATE FUNCTION roles_in_project(project TEXT, principal TEXT) RETURNS TEXT[]
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
        SELECT ARRAY(
            SELECT role FROM project_members WHERE project_id = project AND principal_id = principal
            UNION
            SELECT mapping.role FROM principal_groups JOIN group_mappings mapping USING (issuer, group_name)
            WHERE principal_groups.principal_id = principal AND mapping.project_id = project)
    $$;
    CREATE FUNCTION is_active_principal(principal TEXT, token TEXT, signed_in_at TIMESTAMPTZ) RETURNS BOOLEAN
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
        SELECT EXISTS (SELECT 1 FROM principals
                       WHERE id = principal AND disabled_at IS NULL AND deleted_at IS NULL
                         AND (signed_in_at IS NULL OR signed_in_at >= sessions_valid_from))
           AND (token IS NULL OR EXISTS (
                SELECT 1 FROM api_tokens
                WHERE id = token AND principal_id = principal AND revoked_at IS NULL
                  AND (expires_at IS NULL OR expires_at > clock_timestamp())))
    $$;
    CREATE FUNCTION first_organization() RETURNS TEXT
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
        SELECT id FROM organizations ORDER BY number LIMIT 1
    $$;
    CREATE FUNCTION standing_in_project(project TEXT, principal TEXT, token TEXT, signed_in_at TIMESTAMPTZ)
    RETURNS TABLE (project_id TEXT, organization_id TEXT, archived BOOLEAN, active BOOLEAN,
                   project_roles TEXT[], organization_roles TEXT[], installation_roles TEXT[])
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    BEGIN
        RETURN QUERY
        SELECT found.id, found.organization_id, found.archived_at IS NOT NULL,
               is_active_principal(principal, token, signed_in_at),
               roles_in_project(project, principal), roles_in_organization(found.organization_id, principal),
               roles_in_organization(first_organization(), principal)
        FROM projects found WHERE found.id = project;
    END
    $$;
    CREATE FUNCTION standing_in_organization(
        organization TEXT, principal TEXT, token TEXT, signed_in_at TIMESTAMPTZ)
    RETURNS TABLE (organization_id TEXT, active BOOLEAN, is_member BOOLEAN, organization_roles TEXT[],
                   installation_roles TEXT[])
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    BEGIN
        RETURN QUERY
        SELECT found.id, is_active_principal(principal, token, signed_in_at),
               EXISTS (SELECT 1 FROM projects
                       WHERE projects.organization_id = organization
                         AND cardinality(roles_in_project(projects.id, principal)) > 0)
               OR EXISTS (SELECT 1 FROM principals
                          WHERE principals.id = principal AND principals.organization_id = organization),
               roles_in_organization(organization, principal),
               roles_in_organization(first_organization(), principal)
        FROM organizations found WHERE found.id = organization;
    END
    $$;
    CREATE FUNCTION projects_of(principal TEXT, everywhere BOOLEAN)
    RETURNS TABLE (id TEXT, organization_id TEXT, display_name TEXT, created_by TEXT,
                   created_at TIMESTAMPTZ, archived_at TIMESTAMPTZ, project_roles TEXT[],
                   organization_roles TEXT[])
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
        SELECT found.* FROM (
            SELECT projects.id, projects.organization_id, projects.display_name, projects.created_by,
                   projects.created_at, projects.archived_at, roles_in_project(projects.id, principal) mine,
                   roles_in_organization(projects.organization_id, principal) above
            FROM projects) found
        WHERE everywhere OR cardinality(mine || above) > 0 ORDER BY found.id
    $$;
    CREATE FUNCTION organizations_of(principal TEXT, everywhere BOOLEAN)
    RETURNS TABLE (id TEXT, display_name TEXT, created_by TEXT, created_at TIMESTAMPTZ,
                   organization_roles TEXT[])
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
        SELECT organizations.id, organizations.display_name, organizations.created_by,
               organizations.created_at, roles_in_organization(organizations.id, principal)
        FROM organizations
        WHERE everywhere OR cardinality(roles_in_organization(organizations.id, principal)) > 0
           OR EXISTS (SELECT 1 FROM projects_of(principal, false) mine
                      WHERE mine.organization_id = organizations.id)
           OR EXISTS (SELECT 1 FROM principals
                      WHERE principals.id = principal AND principals.organization_id = organizations.id)
        ORDER BY organizations.id
    $$;
    CREATE FUNCTION has_owner(organization TEXT) RETURNS BOOLEAN
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
        SELECT EXISTS (
            SELECT 1 FROM principals
            WHERE disabled_at IS NULL AND deleted_at IS NULL
              AND 'owner' = ANY (roles_in_organization(organization, id)))
    $$;
"""


def upgrade() -> None:
    """Move forward."""
    for statements in (_ORGANIZATIONS, _PRINCIPALS, _ROLES, _TOKENS, _STANDING):
        op.execute(statements)
