"""Reading a tokenized cache: mapped into memory, not read into it."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset, concatenate_datasets

from steelyard.runtime.manifests import read_manifest, verify_manifest
from steelyard.specs.run import TokenFiles


def open_rows(tokens: TokenFiles) -> Dataset | str:
    """Return the rows of a cache, or, as a sentence, why they are not the ones that are meant."""
    folder = Path(tokens.folder)
    damage = verify_manifest(folder)
    if damage is not None:
        return damage.message
    manifest = read_manifest(folder)
    if manifest.digest() != tokens.digest:
        return f"{folder.name} holds {manifest.digest()}, not {tokens.digest}"
    return map_files([folder / name for name in sorted(manifest.files) if name.endswith(".arrow")])


def map_files(paths: Sequence[Path]) -> Dataset:
    """Map Arrow files one after another as one dataset."""
    parts = [Dataset.from_file(str(path)) for path in paths]
    return concatenate_datasets([part for part in parts if len(part)] or parts[:1])
