from __future__ import annotations

import polars as pl

from hidvae.data.text import clean_text


def test_entities_are_decoded_and_blanks_are_null() -> None:
    found = clean_text(
        pl.Series(["Salt &amp; Pepper", "  ", None, " Miss J&amp;#039;s ", "R&B", ""])
    )
    assert found.to_list() == ["Salt & Pepper", None, None, "Miss J's", "R&B", None]
    assert clean_text(pl.Series([None, None])).dtype == pl.String


def test_control_characters_are_blanks() -> None:
    found = clean_text(pl.Series(["a\x1b[31mb", "a\u202eb\u2066", "a\nb\tc", "é ü"]))
    assert found.to_list() == ["a [31mb", "a b", "a b c", "é ü"]
