"""Organizations, people and service accounts, the roles that they hold, and their tokens."""

from datetime import datetime

from sqlalchemy import ARRAY, DateTime, ForeignKey, Identity, Index, LargeBinary, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from steelyard.storage.tables.base import Base, CreatedAt, Moment, TextKey


class OrganizationRow(Base):
    """A company or a department: it owns projects. The id is the name that users write."""

    __tablename__ = "organizations"

    id: Mapped[TextKey]
    display_name: Mapped[str]
    number: Mapped[int] = mapped_column(Identity(always=True), unique=True)
    """The lowest is the installation's own: its owners operate the pool."""
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]


class PrincipalRow(Base):
    """Somebody who can hold a role. Rows are never deleted, so the past keeps its names."""

    __tablename__ = "principals"
    __table_args__ = (UniqueConstraint("issuer", "subject"),)

    id: Mapped[TextKey]
    """What `created_by`, the audit trail and people call him; never given to anybody else."""
    kind: Mapped[str]
    """`user` or `service_account`."""
    organization_id: Mapped[str | None] = mapped_column(ForeignKey("organizations.id"))
    """Of a service account, whose it is; a user belongs to none."""
    email: Mapped[str | None]
    display_name: Mapped[str]
    issuer: Mapped[str | None]
    """The identity provider that vouches for him; with `subject`, its name for him."""
    subject: Mapped[str | None]
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]
    disabled_at: Mapped[Moment | None]
    deleted_at: Mapped[Moment | None]
    last_login_at: Mapped[Moment | None]
    sessions_valid_from: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=text("to_timestamp(0)")
    )
    """He signed out then; sessions from before are over."""


class PrincipalGroupRow(Base):
    """A group that the identity provider put somebody in, as of his last login."""

    __tablename__ = "principal_groups"

    principal_id: Mapped[str] = mapped_column(ForeignKey("principals.id"), primary_key=True)
    issuer: Mapped[str] = mapped_column(primary_key=True)
    group_name: Mapped[str] = mapped_column(primary_key=True)


class OrganizationMemberRow(Base):
    """A role that somebody holds in an organization."""

    __tablename__ = "organization_members"
    __table_args__ = (Index("organization_members_by_principal", "principal_id"),)

    organization_id: Mapped[str] = mapped_column(ForeignKey("organizations.id"), primary_key=True)
    principal_id: Mapped[str] = mapped_column(ForeignKey("principals.id"), primary_key=True)
    role: Mapped[str] = mapped_column(primary_key=True)
    granted_by: Mapped[str]
    granted_at: Mapped[CreatedAt]


class ProjectMemberRow(Base):
    """A role that somebody holds in a project."""

    __tablename__ = "project_members"
    __table_args__ = (Index("project_members_by_principal", "principal_id"),)

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    principal_id: Mapped[str] = mapped_column(ForeignKey("principals.id"), primary_key=True)
    role: Mapped[str] = mapped_column(primary_key=True)
    granted_by: Mapped[str]
    granted_at: Mapped[CreatedAt]


class GroupMappingRow(Base):
    """Everybody in a group of an identity provider holds a role: of a project, or of the organization."""

    __tablename__ = "group_mappings"
    __table_args__ = (Index("group_mappings_by_organization", "organization_id"),)

    id: Mapped[TextKey]
    issuer: Mapped[str]
    group_name: Mapped[str]
    organization_id: Mapped[str] = mapped_column(ForeignKey("organizations.id"))
    project_id: Mapped[str | None] = mapped_column(ForeignKey("projects.id"))
    role: Mapped[str]
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]


class ApiTokenRow(Base):
    """A token that acts for somebody, within bounds. The secret itself is nowhere."""

    __tablename__ = "api_tokens"
    __table_args__ = (
        Index("api_tokens_by_principal", "principal_id", "id"),
        Index("api_tokens_by_maker", "made_with", postgresql_where=text("made_with IS NOT NULL")),
    )

    id: Mapped[TextKey]
    principal_id: Mapped[str] = mapped_column(ForeignKey("principals.id"))
    name: Mapped[str]
    digest: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    """SHA-256 of the token."""
    projects: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    """The only ones that it reaches; None: all of its principal's."""
    permissions: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    """The only ones that it has; None: all of its principal's."""
    created_by: Mapped[str]
    made_with: Mapped[str | None] = mapped_column(ForeignKey("api_tokens.id"))
    """The token that asked for it; None: a session did, or the local admin."""
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[Moment | None]
    revoked_at: Mapped[Moment | None]
    last_used_at: Mapped[Moment | None]
    """To the minute."""
