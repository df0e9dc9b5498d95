"""`python -m steelyard.datasets.examiner STORE`: an order as JSON on standard input, its answer on output.

Orders are `{"verify": MANIFEST}` and `{"diff": [OLD, NEW]}`.
"""

import json
import sys
from pathlib import Path
from typing import Any

from steelyard.datasets.inspection import diff_versions, verify_version
from steelyard.specs.datasets import VersionManifest


def examine(order: dict[str, Any], store_root: Path) -> Any:
    """Carry out an order and return its answer, a JSON value."""
    if "verify" in order:
        return verify_version(VersionManifest.model_validate(order["verify"]), store_root=store_root)
    old, new = (VersionManifest.model_validate(manifest) for manifest in order["diff"])
    return diff_versions(old, new, store_root=store_root).model_dump(mode="json")


if __name__ == "__main__":
    json.dump(examine(json.load(sys.stdin), Path(sys.argv[1])), sys.stdout)
