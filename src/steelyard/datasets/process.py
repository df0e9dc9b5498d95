"""`python -m steelyard.datasets.process ORDER.json`: one ingest, in a process that may use all cores and die.

Standard output carries JSON lines: `{"progress": {...}}` again and again, then one
`{"manifest": {...}}` or `{"error": {"code", "message", "param", "details"}}`. Killed and called again with
the same order, it reuses what was finished. It dies with the process that started it, and waits where
another is at the same ingest.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from steelyard.datasets.build import ProgressNote
from steelyard.datasets.derivation import Parent, appending, filter_version, mix_versions
from steelyard.datasets.ingest import Request, build_version
from steelyard.datasets.report import save_child_report
from steelyard.kit.errors import SteelyardError
from steelyard.runtime.parent import die_with_parent
from steelyard.specs.datasets import DatasetSpec, VersionManifest

_BAD_INPUT_EXIT = 64


def main(order_file: Path) -> int:
    """Carry out an order.

    `{"inputs", "names", "spec", "parent", "derive", "store_root", "work_root", "roots"}` are as in `Request`.
    `tokenizer` is the folder of the tokenizer that the spec names. `evaluation_sets` is a file of
    `{name: [text, ...]}`; rows that overlap with one are dropped.
    """
    die_with_parent()
    order: dict[str, Any] = json.loads(order_file.read_text())
    try:
        manifest = _derive(order) if order.get("derive") else _ingest(order)
    except SteelyardError as error:
        _write(
            {
                "error": {
                    "code": error.code,
                    "message": error.message,
                    "param": error.param,
                    "details": error.details,
                    "retryable": error.retryable or error.http_status >= 500,
                }
            }
        )
        return _BAD_INPUT_EXIT
    _write({"manifest": manifest.model_dump(mode="json")})
    return 0


def _ingest(order: dict[str, Any]) -> VersionManifest:
    request = Request(
        inputs=order["inputs"],
        names=order.get("names") or {},
        spec=DatasetSpec.model_validate_json(json.dumps(order["spec"])),
        store_root=Path(order["store_root"]),
        work_root=Path(order["work_root"]),
        roots=[Path(root) for root in order["roots"]],
        evaluation_sets=_sets(order),
        tokenizer=Path(order["tokenizer"]) if order.get("tokenizer") else None,
        waits=True,
    )
    if order.get("parent") is not None:
        request = appending(request, _parent(order["parent"]))
    return build_version(request, _tell).manifest


def _derive(order: dict[str, Any]) -> VersionManifest:
    terms, store_root = order["derive"], Path(order["store_root"])
    parents = [_parent(parent) for parent in terms["parents"]]
    if terms.get("where") is not None:
        child = filter_version(
            parents[0], terms["where"], store_root=store_root, evaluation_sets=_sets(order)
        )
    else:
        child = mix_versions(
            parents, store_root=store_root, rows=terms.get("rows"), evaluation_sets=_sets(order)
        )
    save_child_report(child.manifest, child.measures, store_root)
    return child.manifest


def _sets(order: dict[str, Any]) -> dict[str, list[str]]:
    return json.loads(Path(order["evaluation_sets"]).read_text())


def _parent(parent: dict[str, Any]) -> Parent:
    manifest = VersionManifest.model_validate(parent["manifest"])
    return Parent(parent["ref"], manifest, parent.get("weight", 1.0))


def _tell(note: ProgressNote) -> None:
    _write({"progress": dataclasses.asdict(note)})


def _write(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
