"""Small preferences that a tiny model can learn: which of two answers is the one with numbers in it."""

from typing import Any

PREFERENCES: list[dict[str, Any]] = [
    {
        "prompt": f"What is {number} and {number}?",
        "chosen": f" It is {2 * number}, the double.",
        "rejected": " The dog jumps over the fox.",
    }
    for number in range(40)
]
CHAT_PREFERENCES: list[dict[str, Any]] = [
    {
        "prompt": [{"role": "user", "content": row["prompt"]}],
        "chosen": [{"role": "assistant", "content": row["chosen"].strip()}],
        "rejected": [{"role": "assistant", "content": row["rejected"].strip()}],
    }
    for row in PREFERENCES
]
JUDGED: list[dict[str, Any]] = [
    {"prompt": row["prompt"], "completion": row[name], "label": name == "chosen"}
    for row in PREFERENCES
    for name in ("chosen", "rejected")
]
CHAT_JUDGED: list[dict[str, Any]] = [
    {"prompt": row["prompt"], "completion": row[name], "label": name == "chosen"}
    for row in CHAT_PREFERENCES
    for name in ("chosen", "rejected")
]
