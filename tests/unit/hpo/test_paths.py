"""Which field is suggested for a name that is none."""

import pytest

from steelyard.hpo.paths import nearest, open_paths


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("training.lr", "training.learning_rate"),
        ("lr", "training.learning_rate"),
        ("learning_rate", "training.learning_rate"),
        ("training.learning_rat", "training.learning_rate"),
        ("trainin.learning_rate", "training.learning_rate"),
        ("training.bs", "training.per_device_train_batch_size"),
        ("training.batch_size", "training.per_device_train_batch_size"),
        ("training.train_batch", "training.per_device_train_batch_size"),
        ("training.epochs", "training.num_train_epochs"),
        ("training.wd", "training.weight_decay"),
        ("training.warmup", "training.warmup_steps"),
        ("peft.rank", "peft.r"),
        ("r", "peft.r"),
        ("alpha", "peft.lora_alpha"),
        ("lora.dropout", "peft.lora_dropout"),
        ("training.sede", "training.seed"),
        ("training.learnign_rate", "training.learning_rate"),
        ("xyzzy", None),
    ],
)
def test_the_field_that_was_meant(written: str, meant: str | None) -> None:
    assert nearest(written, open_paths()) == meant
