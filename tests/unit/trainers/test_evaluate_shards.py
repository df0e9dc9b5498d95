"""Shards on the disk: only whole ones of the same samples count."""

from pathlib import Path

import pytest

from steelyard.trainers.evaluate_shards import SHARD_SAMPLES, FinishedShard, ShardFolder, cut_shards
from steelyard.trainers.evaluate_workload import Record, name_samples


def _record(sample_id: str) -> Record:
    return Record(sample_id, "task", 0, "{}", "", {"x": 1.25}, {"loss": 0.1}, {"loss": 3.0})


def test_all_samples_are_in_one_shard_each() -> None:
    ids = [str(number) for number in range(2 * SHARD_SAMPLES + 1)]
    shards = list(cut_shards(ids))
    assert [len(shard.places) for shard in shards] == [SHARD_SAMPLES, SHARD_SAMPLES, 1]
    assert [each for shard in shards for each in shard.sample_ids] == ids


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    (shard,) = cut_shards(["a", "b"])
    finished = FinishedShard([_record("a"), _record("b")], 0.5)
    ShardFolder(tmp_path / "cell").write(shard, finished)
    assert ShardFolder(tmp_path / "cell").read(shard) == finished


@pytest.mark.parametrize("damage", ["cut", "changed", "emptied"])
def test_a_damaged_shard_does_not_count(tmp_path: Path, damage: str) -> None:
    (shard,) = cut_shards(["a"])
    ShardFolder(tmp_path).write(shard, FinishedShard([_record("a")], 0.5))
    (path,) = tmp_path.glob("shard-*.json")
    data = path.read_bytes()
    damaged = {"cut": data[:-3], "changed": data.replace(b"1.25", b"1.26"), "emptied": b""}
    path.write_bytes(damaged[damage])
    assert ShardFolder(tmp_path).read(shard) is None


def test_a_shard_of_other_samples_does_not_count(tmp_path: Path) -> None:
    (shard,), (other,) = cut_shards(["a"]), cut_shards(["b"])
    ShardFolder(tmp_path).write(shard, FinishedShard([_record("a")], 0.5))
    assert ShardFolder(tmp_path).read(other) is None


def test_copies_of_a_sample_are_told_apart_and_the_rest_keeps_its_name() -> None:
    ids = name_samples(["a", "b", "a"])
    assert len(set(ids)) == 3
    assert ids[:2] == name_samples(["a", "b"])
