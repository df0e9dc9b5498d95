"""One digest as it was sealed beside what it is now. Pure."""

from steelyard.specs.lineage import LineageCheck


def compare(subject: str, sealed: str | None, found: str | None, what: str = "") -> LineageCheck:
    """Return the check of a digest.

    Args:
        what: what is looked at, for the message; empty: the subject.
    """
    if sealed == found:
        return LineageCheck(subject=subject, status="ok", sealed=sealed, found=found)
    message = f"{what or subject.replace('_', ' ')} isn't what was sealed"
    return LineageCheck(subject=subject, status="differs", sealed=sealed, found=found, message=message)


def lost(subject: str, sealed: str | None, message: str) -> LineageCheck:
    """Return the check of something that is gone."""
    return LineageCheck(subject=subject, status="missing", sealed=sealed, message=message)
