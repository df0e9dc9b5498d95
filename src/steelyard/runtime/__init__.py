"""What a training process talks through: checkpoints, reports, the wish to stop, and ranks.

    from steelyard import runtime

    context = runtime.init()

The same script runs as a job and with no platform at all. See `steelyard.runtime.context`.
"""

from steelyard.runtime.context import Context, init
from steelyard.runtime.failures import Fenced, RunFailure

__all__ = ["Context", "Fenced", "RunFailure", "init"]
