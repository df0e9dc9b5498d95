"""The endings by which a remote file is known to be data: those of local ones."""

from steelyard.specs.data_endings import ENDINGS, ending_of

__all__ = ["ENDINGS", "ending_of"]
