"""Programs that run as an attempt: `python -m steelyard.trainers.sft run.json`.

They know the runtime and nothing of servers. Each has `main(run_path) -> int`, which the fork server calls.
"""

import os

# Before the first import of the libraries that read them. Telemetry would be a call to a stranger.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
