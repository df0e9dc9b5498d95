"""The reference: the model that a policy started from and is held near."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from peft import PeftModel


class Reference:
    """A frozen copy, or, where the policy is an adapter, the policy without it.

    Args:
        policy: the model that is trained, unwrapped.
        frozen: the copy; needed where `policy` has no adapter.
    """

    def __init__(self, policy: Any, frozen: Any = None) -> None:
        if frozen is None and not isinstance(policy, PeftModel):
            raise ValueError("a policy without an adapter needs a frozen copy as its reference")
        self._policy = policy
        self._frozen = frozen

    @contextmanager
    def active(self) -> Generator[Any]:
        """Give the reference model for a while, in evaluation mode and without gradients.

        Not for training steps within: where it is the policy itself, its adapter is off meanwhile.
        """
        model = self._policy if self._frozen is None else self._frozen
        adapter_off = nullcontext() if self._frozen is not None else self._policy.disable_adapter()
        was_training = model.training
        with torch.no_grad(), adapter_off:
            model.eval()
            try:
                yield model
            finally:
                model.train(was_training)
