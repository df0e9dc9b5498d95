"""Words of access: what can be permitted, and the roles that permit it."""

from enum import StrEnum


class Permission(StrEnum):
    """One kind of act, `noun.verb`. Every route and every service call names the one that it needs."""

    JOB_READ = "job.read"
    JOB_SUBMIT = "job.submit"
    JOB_CONTROL = "job.control"
    """Cancel, pause, resume, retry, and priority."""
    DATASET_READ = "dataset.read"
    DATASET_WRITE = "dataset.write"
    DATASET_DELETE = "dataset.delete"
    MODEL_READ = "model.read"
    MODEL_PROMOTE = "model.promote"
    """Ask for a promotion; who approves needs `approval.decide`."""
    MODEL_ROLLBACK = "model.rollback"
    APPROVAL_READ = "approval.read"
    APPROVAL_DECIDE = "approval.decide"
    EVALUATION_READ = "evaluation.read"
    SUITE_WRITE = "suite.write"
    GATE_WRITE = "gate.write"
    """Gates, approval policies, freeze windows, webhooks."""
    COST_READ = "cost.read"
    """Budgets, the ledger, and costs."""
    BUDGET_WRITE = "budget.write"
    QUOTA_READ = "quota.read"
    QUOTA_WRITE = "quota.write"
    SECRET_READ = "secret.read"  # noqa: S105 - no password
    """Names of secrets; values are never read back."""
    SECRET_WRITE = "secret.write"  # noqa: S105 - no password
    MEMBER_READ = "member.read"
    MEMBER_WRITE = "member.write"
    AUDIT_READ = "audit.read"
    POOL_READ = "pool.read"
    POOL_WRITE = "pool.write"
    ORGANIZATION_READ = "organization.read"
    ORGANIZATION_WRITE = "organization.write"
    """Projects, users, service accounts, identity provider, organization-wide gates and suites."""


class ProjectRole(StrEnum):
    """What somebody may do in one project."""

    VIEWER = "viewer"
    DEVELOPER = "developer"
    APPROVER = "approver"
    ADMIN = "admin"


class OrganizationRole(StrEnum):
    """What somebody may do in an organization and all its projects."""

    OWNER = "owner"
    AUDITOR = "auditor"
