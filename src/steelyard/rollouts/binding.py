"""What an approval is bound to: one digest over everything that it saw. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from steelyard.kit.canonical import digest_json

_WORDS = {
    "model_digest": "the model",
    "evidence": "the evidence",
    "incumbent_evidence": "the evidence about the version that is there",
    "gates": "the gates",
    "alias_sequence": "what the alias points to",
}


@dataclass(frozen=True)
class Binding:
    """The model, what speaks for it, what it was held against, and what it would replace."""

    project: str
    model: str
    version: int
    alias: str
    model_digest: str
    evidence: Mapping[str, str]
    """Digests of the evaluations, by what was evaluated."""
    incumbent_evidence: Mapping[str, str]
    gates: Sequence[str]
    """Digests of the gates."""
    alias_sequence: int
    """Of the alias before the move; 0: it points nowhere."""

    def digest(self) -> str:
        """Return the digest that approvals name."""
        return digest_json(asdict(self))


def what_changed(before: Binding, now: Binding) -> str:
    """Name what differs, for a person."""
    changed = [words for name, words in _WORDS.items() if getattr(before, name) != getattr(now, name)]
    return " and ".join(changed) or "something"
