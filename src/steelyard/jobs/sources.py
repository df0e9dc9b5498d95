"""Which folders of the server a job may name as its base model. Pure but for looking up links."""

from collections.abc import Sequence
from pathlib import Path

_LOCAL_PREFIXES = ("/", ".", "~")


def refuse_folder(name: str, home: Path, roots: Sequence[Path]) -> str | None:
    """Return why a model's name may not be read from disk; None where it may, or isn't a folder's.

    Never from the platform's own folders, where other projects' models lie. Where `roots` are set, from below
    them alone.
    """
    if not name.startswith(_LOCAL_PREFIXES):
        return None
    folder = Path(name).expanduser().resolve()
    if folder.is_relative_to(home.resolve()):
        return (
            f"{name} is in the platform's own folder; name a registered model as models/NAME@VERSION instead"
        )
    allowed = [root.expanduser().resolve() for root in roots]
    if allowed and not any(folder.is_relative_to(root) for root in allowed):
        listed = ", ".join(str(root) for root in roots)
        return f"{name} isn't below one of {listed}; STEELYARD_MODEL_ROOTS says where models may come from"
    return None
