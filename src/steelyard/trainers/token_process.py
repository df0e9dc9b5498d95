"""`python -m steelyard.trainers.token_process ORDER.json`: one tokenized cache, in a process that may die.

The control plane runs this. Standard output carries JSON lines: `{"progress": {"done", "total"}}` again and
again, then `{"cache": {"digest", "size_bytes", "hit", "summary"}}` or
`{"error": {"code", "message", "param"}}` and exit code 64.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from steelyard.runtime.failures import RunFailure
from steelyard.runtime.manifests import read_manifest, total_size
from steelyard.runtime.parent import die_with_parent
from steelyard.specs.tokens import TokenOrder, TokenProgress
from steelyard.trainers.quiet import quieten_libraries
from steelyard.trainers.token_cache import make_cache, read_summary

_NICENESS = 5


def main(order_file: Path) -> int:
    """Carry out an order."""
    die_with_parent()
    os.nice(_NICENESS)
    quieten_libraries()
    order = TokenOrder.model_validate_json(order_file.read_bytes())
    try:
        hit = make_cache(order, _tell)
    except RunFailure as failure:
        error = {"code": failure.reason, "message": failure.message, "param": failure.param}
        _write({"error": error})
        return failure.exit_code
    folder = Path(order.folder)
    manifest = read_manifest(folder)
    _write(
        {
            "cache": {
                "digest": manifest.digest(),
                "size_bytes": total_size(manifest),
                "hit": hit,
                "summary": read_summary(folder).model_dump(),
            }
        }
    )
    return 0


def _tell(progress: TokenProgress) -> None:
    _write({"progress": progress.model_dump()})


def _write(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
