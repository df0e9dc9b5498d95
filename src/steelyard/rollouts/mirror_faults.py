"""What is wrong with a model in MLflow, beside what we have of it. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from steelyard.registry.mlflow import MirroredModel, MirroredVersion
from steelyard.rollouts.mirror_tags import VERSION_TAG, is_same, wrong_tags
from steelyard.specs.promotions import Alias


@dataclass(frozen=True)
class WantedVersion:
    """A version that MLflow has been given."""

    number: str
    """MLflow's."""
    run_id: str | None
    tags: Mapping[str, str]


@dataclass(frozen=True)
class WantedModel:
    """A model as it should be in MLflow. Equal ones were read with nothing happening in between."""

    repairs: int
    """How often it was put right before."""
    versions: Mapping[int, WantedVersion]
    """By our number; those that MLflow has not been given yet are not among them."""
    pending: frozenset[int]
    """Our numbers of those."""
    aliases: Mapping[str, tuple[int, int]]
    """Alias -> our number of the version, and the alias's sequence."""
    late: frozenset[str] = field(default=frozenset(), compare=False)
    """Aliases whose move is on its way to MLflow: a difference is no news."""
    under_way: bool = field(default=False, compare=False)
    """Whether the whole model is being put right already."""


@dataclass(frozen=True)
class Fault:
    """One thing that somebody did to a model in MLflow."""

    type_: Literal["model.restored", "version.restored", "version.removed", "alias.restored"]
    """Of the event that tells of it."""
    subject: str
    """What it was done to: `NAME`, `NAME@3`, `NAME@prod`."""
    message: str
    detail: Mapping[str, Any]


def faults_of(name: str, wanted: WantedModel, found: MirroredModel | None) -> list[Fault]:
    """Return what differs. A model of which MLflow was given nothing yet has no faults.

    Args:
        name: of the model, for the words.
        found: None: MLflow has no such model.
    """
    if not wanted.versions or wanted.under_way:
        return []
    if found is None:
        count = len(wanted.versions)
        words = f"MLflow had lost {name} with its {count} version{'s'[: count != 1]} and gets it again"
        detail = {"versions": sorted(wanted.versions), "aliases": dict(_pointed(wanted))}
        return [Fault("model.restored", name, words, detail)]
    return [
        *_of_versions(name, wanted, found),
        *_of_strangers(name, wanted, found),
        *_of_aliases(name, wanted, found),
    ]


def strangers(wanted: WantedModel, found: MirroredModel) -> list[MirroredVersion]:
    """Return versions in MLflow that pass for ours and are not: of a run of ours, or with our tag.

    One that passes for a version which MLflow lacks just now is none: somebody may be making that very one.
    """
    known = {each.number for each in wanted.versions.values()}
    runs = {each.run_id: each.number for each in wanted.versions.values()}
    lacking = {str(ours) for ours, each in wanted.versions.items() if each.number not in found.versions} | {
        str(ours) for ours in wanted.pending
    }
    return [
        each
        for number, each in sorted(found.versions.items())
        if number not in known
        and (each.run_id in runs or VERSION_TAG in each.tags)
        and each.tags.get(VERSION_TAG) not in lacking
        and runs.get(each.run_id, number) in found.versions
    ]


def _of_versions(name: str, wanted: WantedModel, found: MirroredModel) -> Iterator[Fault]:
    for ours, each in sorted(wanted.versions.items()):
        subject, detail = f"{name}@{ours}", {"version": ours, "mlflow_version": each.number}
        there = found.versions.get(each.number)
        if there is None or not is_same(each.run_id, there):
            what = "had lost" if there is None else "had other files as"
            words = f"MLflow {what} {subject} (its version {each.number}) and gets it again"
            yield Fault("version.restored", subject, words, detail)
            continue
        wrong = wrong_tags(each.tags, there.tags)
        if wrong:
            words = f"tags of {subject} were changed in MLflow ({', '.join(wrong)}) and are as before again"
            tags = {key: {"found": there.tags.get(key), "restored": value} for key, value in wrong.items()}
            yield Fault("version.restored", subject, words, {**detail, "tags": tags})


def _of_strangers(name: str, wanted: WantedModel, found: MirroredModel) -> Iterator[Fault]:
    for each in strangers(wanted, found):
        words = f"MLflow's version {each.number} of {name} passed for one of ours and is removed"
        detail = {"mlflow_version": each.number, "run_id": each.run_id, "source": each.source}
        yield Fault("version.removed", name, words, detail)


def _of_aliases(name: str, wanted: WantedModel, found: MirroredModel) -> Iterator[Fault]:
    numbers = dict(_pointed(wanted))
    for alias in Alias:
        there = found.aliases.get(alias.value)
        if alias.value in wanted.late or (alias.value in wanted.aliases and alias.value not in numbers):
            continue
        here = numbers.get(alias.value)
        if there != here:
            words = f"MLflow's alias {alias} of {name} was {_at(there)} and is {_at(here)} again"
            detail = {"alias": alias.value, "found": there, "restored": here}
            yield Fault("alias.restored", f"{name}@{alias}", words, detail)


def _pointed(wanted: WantedModel) -> Iterator[tuple[str, str]]:
    """Yield aliases with MLflow's number of where they point, if it has been given that version."""
    for alias, (version, _) in sorted(wanted.aliases.items()):
        if version in wanted.versions:
            yield alias, wanted.versions[version].number


def _at(version: str | None) -> str:
    return "missing" if version is None else f"at version {version}"
