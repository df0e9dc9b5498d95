"""A script's checkout, described by a real git."""

import subprocess
from pathlib import Path

from steelyard.client.git import describe_checkout


def git(folder: Path, *words: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


def test_commit_and_changes_are_told(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "train.py").write_text("print(1)\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    clean = describe_checkout(tmp_path)
    assert len(clean["commit"]) == 40
    assert "diff_digest" not in clean
    (tmp_path / "train.py").write_text("print(2)\n")
    changed = describe_checkout(tmp_path)
    assert changed["commit"] == clean["commit"]
    assert changed["diff_digest"].startswith("sha256:")


def test_outside_of_a_repository_nothing_is_told(tmp_path: Path) -> None:
    assert describe_checkout(tmp_path) == {}
