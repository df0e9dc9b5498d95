"""The demo's data: questions about Python's standard library, answered by its own docstrings.

Every machine that runs this has it: no network, no licence to ask for, real text. The sources are parsed,
never imported, so nothing of them runs. One interpreter always gives the same rows in the same order.
"""

import ast
import json
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

_SKIPPED_FOLDERS = frozenset(
    {"test", "tests", "idlelib", "lib2to3", "turtledemo", "site-packages", "dist-packages", "__pycache__"}
)
_SKIPPED_MODULES = frozenset({"antigravity", "this", "pydoc_data.topics"})
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z(`'\"])")
_SPACES = re.compile(r"\s+")
_SIGNATURE = re.compile(r"^[\w.]+\([^)]*\)\s*(->|--|\.?$)")


def stdlib_questions(
    *, min_characters: int = 20, max_characters: int = 160, library: Path | None = None
) -> list[dict[str, str]]:
    """Return rows of `prompt` and `completion`; no completion comes twice.

    Args:
        min_characters: shortest answer, in characters.
        max_characters: longest answer.
        library: folder of the library's sources; unset: the running interpreter's.
    """
    folder = library or Path(sysconfig.get_path("stdlib"))
    seen: set[str] = set()
    rows: list[dict[str, str]] = []
    for name, docstring in _docstrings(folder):
        answer = first_sentence(docstring)
        key = answer.casefold()
        if not min_characters <= len(answer) <= max_characters or key in seen or _SIGNATURE.match(answer):
            continue
        seen.add(key)
        rows.append({"prompt": f"What does Python's `{name}` do?", "completion": f" {answer}"})
    return rows


def write_stdlib_questions(
    path: Path, *, min_characters: int = 20, max_characters: int = 160, library: Path | None = None
) -> int:
    """Write the rows as JSON Lines, in one move; return how many there are."""
    rows = stdlib_questions(min_characters=min_characters, max_characters=max_characters, library=library)
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )
    temporary.replace(path)
    return len(rows)


def first_sentence(docstring: str) -> str:
    """The first sentence of the first paragraph, on one line, ending in a full stop."""
    paragraph = docstring.strip().split("\n\n", 1)[0]
    line = _SPACES.sub(" ", paragraph).strip()
    sentence = _SENTENCE_END.split(line, 1)[0].rstrip(" :;,")
    if not sentence:
        return ""
    return sentence if sentence[-1] in ".!?" else f"{sentence}."


def _docstrings(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("*.py")):
        module = _module_name(path.relative_to(folder))
        if module is None:
            continue
        tree = _parse(path)
        if tree is not None:
            yield from _of_body(tree, module)


def _module_name(path: Path) -> str | None:
    """The dotted name of a public module, or None for one to leave out."""
    parts = list(path.with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    if not parts or any(part in _SKIPPED_FOLDERS or part.startswith("_") for part in parts):
        return None
    name = ".".join(parts)
    return None if name in _SKIPPED_MODULES or not name.replace(".", "").isidentifier() else name


def _parse(path: Path) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return None


def _of_body(node: ast.Module | ast.ClassDef, name: str) -> Iterator[tuple[str, str]]:
    """Yield the docstrings of `node`'s public members, classes' methods included, in source order."""
    for child in node.body:
        if not isinstance(child, Documented) or child.name.startswith("_"):
            continue
        full_name = f"{name}.{child.name}"
        docstring = ast.get_docstring(child)
        if docstring:
            yield full_name, docstring
        if isinstance(child, ast.ClassDef):
            yield from _of_body(child, full_name)


if __name__ == "__main__":
    print(write_stdlib_questions(Path(sys.argv[1])))  # noqa: T201 - the command's answer
