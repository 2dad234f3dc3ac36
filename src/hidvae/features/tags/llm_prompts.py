"""The words in which a language model is asked for tags, and what counts as an answer.

Worked examples come first and the item's own text last: the examples show the form of the answer
to models that were never taught to follow instructions, and the common beginning lets servers
reuse what they have computed for the prompt before.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hidvae.features.tags.llm_client import Prompt

NONE = -1
"""The model says that no candidate fits."""
REFUSED = -2
"""The answer is no candidate, or cannot be read."""

_TASK = (
    "Each item gets the one tag of its list that describes it best, or none if no tag fits. The "
    "answer is JSON."
)
_NONE_LABELS = ("none", "none of these", "no tag of this list")
"""The first that is not a candidate's name stands for "no candidate fits"."""
_SEPARATOR = " | "


@dataclass(frozen=True)
class TagQuestion:
    """Which of these tags does this item carry?"""

    text: str
    """What the model reads of the item, on one line."""
    parent_path: str
    """Path of the tag above, "" at level 0."""
    names: tuple[str, ...]
    """The candidates, the most similar to the item first; they differ."""

    @property
    def none_label(self) -> str:
        """What the model says if no candidate fits."""
        return next(label for label in _NONE_LABELS if label not in self.names)

    @property
    def choices(self) -> list[str]:
        """All that the model may say."""
        return [*self.names, self.none_label]


# None of them is answered with none: a small model shown that it may, does so half of the time.
_EXAMPLES = (
    (
        TagQuestion("Trail running shoes, grippy sole", "Sports > Shoes", ("Sandals", "Running")),
        "Running",
    ),
    (
        TagQuestion("Cast iron skillet, 26 cm", "Kitchen", ("Knives", "Storage", "Pots and pans")),
        "Pots and pans",
    ),
    (TagQuestion("Wooden train set, 40 pieces", "", ("Toys", "Garden", "Books")), "Toys"),
)


def choice_prompt(questions: Sequence[TagQuestion]) -> Prompt:
    """Ask for the tags of one item, or of several in one prompt."""
    example_groups = [[e] for e in _EXAMPLES] if len(questions) == 1 else [list(_EXAMPLES)]
    messages = [{"role": "system", "content": _TASK}]
    for group in example_groups:
        asked = [question for question, _ in group]
        answers = dict(zip(_keys(len(group)), [answer for _, answer in group], strict=True))
        messages.append({"role": "user", "content": _describe(asked)})
        messages.append({"role": "assistant", "content": json.dumps(answers)})
    messages.append({"role": "user", "content": _describe(questions)})
    return Prompt(messages, choice_schema(questions))


def choice_schema(questions: Sequence[TagQuestion]) -> dict[str, Any]:
    """An object with one answer per question, each out of its own candidates or none.

    It is no array, in which a schema cannot give every place its own candidates on all servers.
    """
    keys = _keys(len(questions))
    return object_schema(
        {
            key: {"type": "string", "enum": question.choices}
            for key, question in zip(keys, questions, strict=True)
        }
    )


def read_choices(text: str, questions: Sequence[TagQuestion]) -> list[int]:
    """Position of the chosen candidate per question, ``NONE`` or ``REFUSED``.

    Each is checked against the question's own candidates, whatever the server made of the schema.
    """
    answers = read_object(text)
    positions = []
    for key, question in zip(_keys(len(questions)), questions, strict=True):
        answer = answers.get(key)
        if answer == question.none_label:
            positions.append(NONE)
        elif isinstance(answer, str) and answer in question.names:
            positions.append(question.names.index(answer))
        else:
            positions.append(REFUSED)
    return positions


def object_schema(properties: dict[str, Any]) -> dict[str, Any]:
    """A JSON object with exactly these keys."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def read_object(text: str) -> dict[str, Any]:
    """The JSON object that a model wrote; empty if it is broken or something else."""
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def one_line(text: str, max_chars: int) -> str:
    """The beginning of a text without line breaks, which stand between the parts of a prompt."""
    return " ".join(text.split())[:max_chars].rstrip()


def _describe(questions: Sequence[TagQuestion]) -> str:
    if len(questions) == 1:
        return _describe_one(questions[0], "Item")
    return "\n\n".join(_describe_one(q, f"Item {n + 1}") for n, q in enumerate(questions))


def _describe_one(question: TagQuestion, label: str) -> str:
    lines = [f"Tags: {_SEPARATOR.join(question.choices)}"]
    if question.parent_path:
        lines.append(f"Within: {question.parent_path}")
    return "\n".join([*lines, f"{label}: {question.text}"])


def _keys(num_questions: int) -> list[str]:
    """Keys of the answers."""
    return ["tag"] if num_questions == 1 else [f"item_{n + 1}" for n in range(num_questions)]
