from __future__ import annotations

import pytest

from hidvae.features.language import MULTILINGUAL, foreign_language, reads_english_only

ENGLISH = ["Shampoo for dry hair with oil of the argan tree", "Eau de Toilette by La Roche"] * 20
GERMAN = ["Shampoo für trockenes Haar mit Öl aus der Arganbaum und Lavendel"] * 20
RUSSIAN = ["Title: Шампунь для волос"]  # noqa: RUF001


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (ENGLISH, ""),
        (["Blue lamp model 0", "Red lamp model 1"] * 50, ""),
        (["", "123"], ""),
        (GERMAN, "100 small words of German and 0 of English"),
        (GERMAN + ENGLISH * 3, ""),
        (["Blue mug No. 3", "Oak candle No. 4"] * 20, ""),  # no is Portuguese too
        (RUSSIAN, "75% of the letters are not Latin"),
    ],
)
def test_texts_that_are_mostly_not_english(texts: list[str], expected: str) -> None:
    assert foreign_language(texts) == expected


def test_encoders_that_read_other_languages() -> None:
    assert reads_english_only("all-MiniLM-L6-v2")
    for name in (MULTILINGUAL, "hashing", "none", "BAAI/bge-m3", "/models/LaBSE"):
        assert not reads_english_only(name)
