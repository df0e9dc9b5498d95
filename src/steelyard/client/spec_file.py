"""A job spec as a file: read, with `script.path` replaced by the script itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from steelyard.client.git import describe_checkout
from steelyard.client.spec_text import FieldPath, format_path, parse_spec_text
from steelyard.kit.errors import InvalidSpec

_SCRIPT_PLACES: tuple[FieldPath, ...] = (("script",), ("trial", "script"), ("template", "script"))


@dataclass(frozen=True, slots=True)
class SpecFile:
    """A spec that was read but not validated, and where each of its fields came from."""

    data: dict[str, Any]
    source: str
    """Name of the file, as errors call it."""
    folder: Path
    """What `script.path` is relative to."""
    lines: Mapping[FieldPath, int]
    origins: Mapping[FieldPath, str] = field(default_factory=dict[FieldPath, str])
    """Where fields came from that are not in the file, such as `--set training.max_steps=10`."""

    def place(self, path: FieldPath) -> str:
        """Return `file:line` of a field, or of the nearest block around it that has a line."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
            line = self.lines.get(path[:length])
            if line is not None:
                return f"{self.source}:{line}"
        return self.source


def load_spec_file(path: Path) -> SpecFile:
    """Read a YAML or JSON file and the script that it points to.

    Raises:
        InvalidSpec: the file isn't there or isn't a spec; the message names file and line.
    """
    return include_scripts(read_spec_file(path))


def read_spec_file(path: Path) -> SpecFile:
    """Read a YAML or JSON file, and leave `script.path` as it is."""
    return read_spec_text(_read_text(path, str(path)), str(path), path.parent)


def read_spec_text(text: str, source: str, folder: Path) -> SpecFile:
    """Read a spec that is in memory. `source` is what errors call it."""
    data, lines = parse_spec_text(text, source)
    return SpecFile(data, source, folder, lines)


def include_scripts(spec: SpecFile) -> SpecFile:
    """Return the spec with every `script: {path: ...}` replaced by `filename` and `source`.

    Raises:
        InvalidSpec: the script can't be read, or `source` stands beside `path`.
    """
    data = spec.data
    for place in _SCRIPT_PLACES:
        data = _include(spec, data, place, ())
    return SpecFile(data, spec.source, spec.folder, spec.lines, spec.origins)


def _include(spec: SpecFile, block: dict[str, Any], below: FieldPath, above: FieldPath) -> dict[str, Any]:
    name = str(below[0])
    inner = block.get(name)
    if not isinstance(inner, dict):
        return block
    inner = cast("dict[str, Any]", inner)
    path = (*above, name)
    changed = _include(spec, inner, below[1:], path) if below[1:] else _fill_script(spec, inner, path)
    return {**block, name: changed}


def _fill_script(spec: SpecFile, script: dict[str, Any], path: FieldPath) -> dict[str, Any]:
    named = script.get("path")
    if named is None:
        return script
    where = (*path, "path")
    if not isinstance(named, str) or "source" in script:
        raise InvalidSpec(
            f"{spec.place(where)}: {format_path(path)} takes a path (text) or a source, not both.",
            param=format_path(where),
        )
    source = _read_text(spec.folder / named, f"{spec.place(where)}: {format_path(where)}", format_path(where))
    rest = {key: value for key, value in script.items() if key != "path"}
    git = describe_checkout((spec.folder / named).parent)
    return {"filename": Path(named).name, **git, **rest, "source": source}


def _read_text(path: Path, called: str, param: str | None = None) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as cause:
        raise InvalidSpec(
            f"{called}: {path} can't be read: {cause.strerror or cause}.", param=param
        ) from None
    except UnicodeDecodeError:
        raise InvalidSpec(f"{called}: {path} isn't UTF-8 text.", param=param) from None
