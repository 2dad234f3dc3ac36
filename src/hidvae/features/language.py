"""Whether texts are mostly English: a guess from letters and the commonest small words."""

from __future__ import annotations

import re
from collections.abc import Sequence

MULTILINGUAL = "paraphrase-multilingual-MiniLM-L12-v2"
"""An encoder for many languages, as small as the default."""
_MAX_TEXTS = 2000
_MIN_HITS = 20
_MIN_DIFFERENT = 3
"""Small words that a guess needs, and how many different ones: titles alone may have hardly any,
and one may be something else, such as the No. of a model."""
_MAX_OTHER_LETTERS = 0.3
"""Share of letters of another script from which on texts are not English."""
_LANGUAGE_FREE = ("hashing", "none")
_ENGLISH = frozenset("the and of for with to in is on your by from it this that are".split())
_OTHERS = {
    "German": "der die das und mit für von ist auf im den ein eine zum aus bei",
    "French": "le les et des du pour avec une un est dans sur aux en",
    "Spanish": "el los las y del con para una un en por es",
    "Italian": "il di e per della del con una gli le nel che",
    "Portuguese": "o os e do da com para uma um em no na",
    "Dutch": "het een en van met voor op zijn te bij",
    "Polish": "i w z na do dla jest od ze nie",
    "Turkish": "ve ile bir bu için da de çok",
    "Swedish": "och med för att en ett av till på är",
}
"""Small words by language."""
_WORD = re.compile(r"[^\W\d_]+")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f\u1e00-\u1eff]")


def foreign_language(texts: Sequence[str]) -> str:
    """Why the texts seem not to be English, such as "most words are German"; "" if they may be.

    Args:
        texts: (N,); of many, some are looked at.
    """
    sample = [text for text in texts if text]
    sample = sample[:: max(1, len(sample) // _MAX_TEXTS)]
    words = [word.lower() for text in sample for word in _WORD.findall(text)]
    letters = "".join(words)
    if not letters:
        return ""
    share = 1 - len(_LATIN.findall(letters)) / len(letters)
    if share > _MAX_OTHER_LETTERS:
        return f"{share:.0%} of the letters are not Latin"
    counts = {
        language: sum(word in known for word in words)
        for language, known in ((name, set(text.split())) for name, text in _OTHERS.items())
    }
    likeliest = max(counts, key=lambda language: counts[language])
    num_english = sum(word in _ENGLISH for word in words)
    if len(set(words) & set(_OTHERS[likeliest].split())) < _MIN_DIFFERENT:
        return ""
    if counts[likeliest] >= _MIN_HITS and counts[likeliest] > 2 * num_english:
        return f"{counts[likeliest]} small words of {likeliest} and {num_english} of English"
    return ""


def reads_english_only(encoder: str) -> bool:
    """Whether an encoder's name does not say that it reads other languages too."""
    name = encoder.lower()
    if name in _LANGUAGE_FREE:
        return False
    return not any(word in name for word in ("multilingual", "labse", "bge-m3", "e5-multi", "xlm"))
