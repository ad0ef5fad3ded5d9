"""Words, and character n-grams of text whose words are not separated."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from specialm.data import scripts
from specialm.data.scripts import IDEOGRAPH, SYLLABLE, terms, unspaced, words

CHINESE = "编辑部公告：我用Python写代码，很好。"
THAI = "สวัสดีครับ ผมชื่อสมชาย"
BURMESE = "မြန်မာဘာသာစကား"
KHMER = "ភាសាខ្មែរ គឺជា"


@pytest.mark.parametrize(
    ("text", "script"),
    [
        (CHINESE, IDEOGRAPH),
        ("これはテストです。", IDEOGRAPH),
        ("ｶﾀｶﾅ", IDEOGRAPH),
        (THAI, SYLLABLE),
        (BURMESE, SYLLABLE),
        (KHMER, SYLLABLE),
        ("한국어는 띄어쓰기를 한다", None),
        ("हिन्दी में लिखा", None),
        ("An English text with 漢字 in it", None),
        ("café", None),
        ("plain", None),
        ("", None),
        ("12 34。", None),
    ],
)
def test_the_script_of_a_text(text, script):
    assert unspaced(text) is script


def test_units_of_text_without_spaces():
    assert words(CHINESE)[:2] == ["编辑部公", "辑部公告"]
    assert (
        "用python写代" in words(CHINESE)
        and len(words(CHINESE)) == len("编辑部公告我用P写代码很好") - 3
    )
    assert terms("很好。用") == ["很好", "好用"]
    assert terms("编辑部公告很好NumPy写a很") == [*terms("编辑部公告很好"), "numpy", "写", "很"]
    assert words("好") == terms("好") == ["好"]
    assert words("。！") == terms("。！") == []
    assert len(words(THAI)[0]) == 16 and " " not in words(THAI)[0]


def test_vowel_signs_are_parts_of_words():
    assert words("हिन्दी में") == ["हिन्दी", "में"]
    assert words("cafe\u0301") == words("café") == ["café"]
    assert terms("हिन्दी a") == ["हिन्दी"]
    assert words("✔\ufe0f ok") == ["ok"]


@given(st.text(st.characters(codec="ascii"), max_size=60))
def test_ascii_is_what_it_was(text):
    assert words(text) == re.findall(r"\w+", text.casefold())
    assert terms(text) == TfidfVectorizer().build_analyzer()(text)


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Z"]), max_size=40))
def test_no_letter_is_in_no_unit_and_spaces_change_nothing(text):
    joined = "".join(words(text))
    folded = scripts.unicodedata.normalize("NFC", text.casefold())
    assert {c for c in folded if c.isalnum()} <= set(joined)
    if unspaced(text):
        assert words(f"  {text}。 ") == words(text)
