"""Models as the engine wants them: a local one, and one behind an OpenAI-compatible api."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

import json
import logging
import time
from collections.abc import Sequence
from typing import Any

import httpx
from lm_eval.api.model import LM
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedTokenizerBase

from steelyard.runtime.failures import RunFailure, bad_config
from steelyard.specs.blocks import EndpointBlock
from steelyard.specs.outcome import ExitCode
from steelyard.specs.states import Reason

_TRIES = 5
_FIRST_DELAY_SECONDS = 0.5
_TOO_MANY, _SERVER_ERROR = 429, 500


def wrap_local(model: Any, tokenizer: PreTrainedTokenizerBase, batch_size: int) -> LM:
    """Wrap a model that is in memory. Prompts are cut to the model's own context length."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    make: Any = HFLM
    return make(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)


class EndpointModel(LM):
    """A chat model behind an api. Generates; gives no likelihoods.

    Args:
        key: sent as a bearer token; never logged.
    """

    def __init__(self, endpoint: EndpointBlock, key: str | None) -> None:
        super().__init__()
        self._endpoint = endpoint
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(headers=headers, timeout=endpoint.timeout_seconds)

    @property
    def tokenizer_name(self) -> str:
        """A name for request caches, which are not used."""
        return self._endpoint.model

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Return the turns as JSON text: the api applies the template."""
        return json.dumps(chat_history)

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Answer each request, one after another.

        Raises:
            RunFailure: the api refuses the request (never retried), or doesn't answer (transient).
        """
        return [self._generate(*request.args) for request in requests]

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Refuse.

        Raises:
            RunFailure: always.
        """
        raise bad_config(
            Reason.BAD_CONFIG,
            f"A task of this suite asks for likelihoods, which {self._endpoint.url} doesn't give: use tasks "
            "with output_type generate_until, or evaluate the weights.",
            param="evaluation.suites",
        )

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Refuse, as `loglikelihood`."""
        self.loglikelihood(requests)
        return []

    def _generate(self, context: str, options: dict[str, Any]) -> str:
        until = options.get("until") or []
        stops = [until] if isinstance(until, str) else list(until)
        body: dict[str, Any] = {
            "model": self._endpoint.model,
            "messages": _messages(context),
            "max_tokens": options.get("max_gen_toks") or self._endpoint.max_tokens,
            "temperature": options.get("temperature", 0.0) if options.get("do_sample") else 0.0,
        }
        # Four is what the api takes; the rest is cut off here.
        if stops:
            body["stop"] = stops[:4]
        text = str(self._post(body)["choices"][0]["message"]["content"] or "")
        for stop in stops:
            text = text.split(stop)[0] if stop else text
        return text

    def _post(self, body: dict[str, Any]) -> Any:
        problem = ""
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_FIRST_DELAY_SECONDS * 2 ** (attempt - 1))
            try:
                response = self._client.post(f"{self._endpoint.url.rstrip('/')}/chat/completions", json=body)
            except httpx.HTTPError as error:
                problem = type(error).__name__
                continue
            if response.is_success:
                return response.json()
            problem = f"HTTP {response.status_code}"
            if response.status_code != _TOO_MANY and response.status_code < _SERVER_ERROR:
                raise bad_config(
                    Reason.BAD_CONFIG,
                    f"{self._endpoint.url} refused a request ({problem}): check model and key.",
                    param="endpoint",
                )
        raise RunFailure(
            Reason.TRANSIENT_FAILURE,
            ExitCode.TRANSIENT,
            f"{self._endpoint.url} didn't answer ({problem}); finished shards are kept.",
        )


def _messages(context: str) -> list[dict[str, str]]:
    """Turns that `apply_chat_template` wrote, or else the text as one user's turn."""
    try:
        turns = json.loads(context)
    except ValueError:
        turns = None
    if isinstance(turns, list) and all(isinstance(each, dict) and "role" in each for each in turns):
        return turns
    return [{"role": "user", "content": context}]
