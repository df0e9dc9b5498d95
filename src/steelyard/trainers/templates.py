"""Chat templates with `{% generation %}` marks, so that loss on the assistant's turns alone is possible.

transformers renders with `trim_blocks`: a line break after a tag vanishes, so breaks are written as strings.
"""

import re

_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")

CHATML = (
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' and default_system %}"
    "{{ '<|im_start|>system\n' + default_system + '<|im_end|>\n' }}"
    "{% endif %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '<|im_start|>assistant\n' }}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML. `default_system` is set at the top by `chatml_with`."""


def chatml_with(default_system: str) -> str:
    """Return ChatML that opens with a system turn where the conversation has none; empty: with nothing."""
    return "{% set default_system = " + repr(default_system) + " %}" + CHATML


def has_marks(template: object) -> bool:
    """Whether a template says which of its text is the assistant's."""
    return isinstance(template, str) and _MARK.search(template) is not None
