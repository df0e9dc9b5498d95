"""What may be in a suite, checked before a byte of it is kept. Pure.

A suite comes from somebody, and runs in attempts of others: its paths stay in its folder, its data are its
own files, and its YAML names no Python, unless the installation allows that.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, cast

import yaml

from steelyard.evals.suite_texts import texts_of_file
from steelyard.kit.canonical import digest_bytes
from steelyard.kit.errors import InvalidRequest
from steelyard.specs.evaluations import MAX_SUITE_BYTES, SuiteFile, SuiteManifest, SuiteUploadFile

_PATH = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*){0,7}$")
_TASK_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$")
_YAML_SUFFIXES = (".yaml", ".yml")
_DATA_SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".txt")
_OTHER_SUFFIXES = (".md",)
_CODE_SUFFIX = ".py"
_READERS = ("json", "csv", "text")
"""Loaders of `datasets` that read the suite's own files and run nothing."""
_DATA_OPTIONS = frozenset({"data_files", "field", "sep", "delimiter"})
_OUTPUT_TYPES = ("multiple_choice", "loglikelihood", "loglikelihood_rolling", "generate_until")
_MAX_YAML_BYTES = 256 << 10
_FUNCTION_TAG = "!function"


@dataclass(frozen=True)
class CheckedSuite:
    """A suite that may be kept."""

    manifest: SuiteManifest
    contents: Mapping[str, bytes]
    runs_code: bool
    texts: list[str]
    """Every text of its data, for who keeps training data apart from it."""


def check_suite(files: Sequence[SuiteUploadFile], *, allow_code: bool) -> CheckedSuite:
    """Check an upload.

    Args:
        allow_code: whether this installation lets suites name Python functions.

    Raises:
        InvalidRequest: something may not be; `param` names the file.
    """
    contents = dict(sorted(_read_contents(files).items()))
    documents = {path: _parse(path, data) for path, data in contents.items() if _is_yaml(path)}
    code = sorted({path for path, parsed in documents.items() if parsed.runs_code} | _code_files(contents))
    if code and not allow_code:
        raise _refused(
            code[0],
            "it brings or names Python (`!function`), which this installation doesn't run; say it with "
            "templates, or have the operator set STEELYARD_SUITES_ALLOW_CODE=true",
        )
    tasks = _tasks_of({path: parsed.value for path, parsed in documents.items()}, contents)
    manifest = SuiteManifest(
        files=[
            SuiteFile(path=path, size=len(data), digest=digest_bytes(data)) for path, data in contents.items()
        ],
        tasks=tasks,
    )
    texts = [
        text
        for path, data in contents.items()
        if path.endswith(_DATA_SUFFIXES)
        for text in _texts(path, data)
    ]
    return CheckedSuite(manifest, contents, bool(code), texts)


def _read_contents(files: Sequence[SuiteUploadFile]) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    total = 0
    for file in files:
        _check_path(file.path, contents)
        try:
            data = base64.b64decode(file.content, validate=True)
        except (ValueError, binascii.Error) as error:
            raise _refused(file.path, "its content is not base64") from error
        total += len(data)
        if total > MAX_SUITE_BYTES:
            raise _refused(file.path, f"the suite is larger than {MAX_SUITE_BYTES >> 20} MiB; split it")
        if digest_bytes(data) != file.digest:
            raise _refused(file.path, f"its bytes have digest {digest_bytes(data)}, not {file.digest}")
        contents[file.path] = data
    return contents


def _check_path(path: str, known: Mapping[str, bytes]) -> None:
    if not _PATH.match(path):
        raise _refused(path, "a path is made of letters, digits, '.', '_', '-' and '/', and stays inside")
    if path.casefold() in {each.casefold() for each in known}:
        raise _refused(path, "it comes twice")
    suffix = PurePosixPath(path).suffix
    allowed = (*_YAML_SUFFIXES, *_DATA_SUFFIXES, *_OTHER_SUFFIXES, _CODE_SUFFIX)
    if suffix not in allowed:
        raise _refused(path, f"a suite holds files of the kinds {', '.join(allowed)}")


@dataclass(frozen=True)
class _Parsed:
    value: dict[str, Any]
    runs_code: bool


def _parse(path: str, data: bytes) -> _Parsed:
    """Read YAML to plain values; no tag but `!function` is known, and that runs nothing here."""
    if len(data) > _MAX_YAML_BYTES:
        raise _refused(path, f"a YAML file has {_MAX_YAML_BYTES >> 10} KiB at most; put the data beside it")
    named: list[str] = []

    class Loader(yaml.SafeLoader):
        pass

    def note_function(loader: yaml.SafeLoader, node: yaml.Node) -> str:
        named.append(str(node.value))
        return str(node.value)

    Loader.add_constructor(_FUNCTION_TAG, note_function)  # pyright: ignore[reportUnknownMemberType]
    try:
        value: Any = yaml.load(data, Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _refused(path, f"it is not YAML that can be read: {error}") from error
    if not isinstance(value, dict):
        raise _refused(path, "it holds no task: a YAML file is a mapping")
    return _Parsed(cast("dict[str, Any]", value), bool(named))


def _code_files(contents: Mapping[str, bytes]) -> set[str]:
    return {path for path in contents if path.endswith(_CODE_SUFFIX)}


def _tasks_of(documents: Mapping[str, dict[str, Any]], contents: Mapping[str, bytes]) -> list[str]:
    tasks: dict[str, str] = {}
    for path in documents:
        # The engine looks for tasks in `.yaml` alone; `.yml` and files without a task are for including.
        if not path.endswith(".yaml") or not isinstance(documents[path].get("task"), str):
            continue
        config = _merged(path, documents, ())
        name = str(config["task"])
        if not _TASK_NAME.match(name):
            raise _refused(path, f"task {name!r} must be made of letters, digits, '_' and '-'")
        if name in tasks:
            raise _refused(path, f"task {name} is defined in {tasks[name]} too")
        _check_task(path, config, contents)
        tasks[name] = path
    if not tasks:
        raise InvalidRequest(
            "the suite has no task; each is a .yaml file with `task: NAME` in lm-evaluation-harness's form",
            param="files",
        )
    return sorted(tasks)


def _merged(path: str, documents: Mapping[str, dict[str, Any]], seen: tuple[str, ...]) -> dict[str, Any]:
    """Return a task with what it includes, as the engine puts them together."""
    if path in seen:
        raise _refused(path, "it includes itself")
    own = documents[path]
    included = own.get("include", [])
    merged: dict[str, Any] = {}
    for name in cast("list[Any]", included) if isinstance(included, list) else [included]:
        target = str(PurePosixPath(path).parent / str(name))
        if target not in documents:
            raise _refused(path, f"it includes {name!r}, which is no YAML file of the suite")
        merged |= _merged(target, documents, (*seen, path))
    return merged | {key: value for key, value in own.items() if key != "include"}


def _check_task(path: str, config: Mapping[str, Any], contents: Mapping[str, bytes]) -> None:
    for rule in _RULES:
        fault = rule(config)
        if fault is not None:
            raise _refused(path, fault)
    options: Any = config.get("dataset_kwargs")
    if not isinstance(options, dict):
        raise _refused(path, "dataset_kwargs.data_files names no file of the suite")
    kwargs = cast("dict[str, Any]", options)
    if unknown := sorted(set(kwargs) - _DATA_OPTIONS):
        raise _refused(path, f"dataset_kwargs.{unknown[0]} isn't possible in a suite")
    named = list(_file_names(kwargs.get("data_files")))
    if not named:
        raise _refused(path, "dataset_kwargs.data_files names no file of the suite")
    for name in named:
        if name not in contents or not name.endswith(_DATA_SUFFIXES):
            raise _refused(
                path, f"data file {name!r} is no data file of the suite (by its path from the top)"
            )


def _reads_own_files(config: Mapping[str, Any]) -> str | None:
    if config.get("dataset_path") not in _READERS:
        return f"dataset_path must be one of {', '.join(_READERS)}: a suite's data are its own files"
    if config.get("dataset_name") is not None:
        return "dataset_name can't be given with a suite's own files"
    return None


def _names_an_output(config: Mapping[str, Any]) -> str | None:
    if config.get("output_type") not in _OUTPUT_TYPES:
        return f"output_type must be one of {', '.join(_OUTPUT_TYPES)}"
    return None


def _needs_nothing_else(config: Mapping[str, Any]) -> str | None:
    for key in ("class", "custom_dataset", "use_prompt", "unsafe_code", "doc_to_image", "doc_to_audio"):
        if config.get(key):
            return f"{key} isn't possible in a suite"
    return None


def _measures_offline(config: Mapping[str, Any]) -> str | None:
    metrics: Any = config.get("metric_list")
    if not isinstance(metrics, list) or not metrics:
        return "metric_list names no metric"
    for each in cast("list[Any]", metrics):
        if not isinstance(each, dict) or "metric" not in each:
            return "each entry of metric_list needs `metric`"
        if cast("dict[str, Any]", each).get("hf_evaluate"):
            return "hf_evaluate loads code from a hub; use one of the engine's own metrics"
    return None


_RULES = (_reads_own_files, _names_an_output, _needs_nothing_else, _measures_offline)


def _file_names(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for each in cast("dict[str, Any]", value).values():
            yield from _file_names(each)
    elif isinstance(value, list):
        for each in cast("list[Any]", value):
            yield from _file_names(each)
    elif value is not None:
        yield str(value)


def _texts(path: str, data: bytes) -> list[str]:
    try:
        return list(texts_of_file(path, data))
    except (ValueError, RecursionError) as error:
        raise _refused(path, f"it can't be read: {error}") from error


def _is_yaml(path: str) -> bool:
    return path.endswith(_YAML_SUFFIXES)


def _refused(path: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"{path}: {why}", param=f"files.{path}")
