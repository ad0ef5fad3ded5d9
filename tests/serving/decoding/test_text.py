import pytest
from hypothesis import given
from hypothesis import strategies as st

from specialm.serving.decoding.text import TextStream


def pushed(stream, parts):
    return "".join(stream.push(part) for part in parts) + stream.finish()


@given(
    text=st.text(max_size=30),
    cuts=st.lists(st.integers(0, 90), max_size=9),
    stop=st.lists(st.text("abé€", min_size=1, max_size=4), max_size=3),
)
def test_however_the_bytes_come_the_text_ends_before_the_first_stop_string(text, cuts, stop):
    content = text.encode()
    edges = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    parts = [content[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    stream = TextStream(stop)
    ends = [text.find(each) for each in stop if each in text]
    made = pushed(stream, parts)
    if stream.stopped:
        # In parts the first to be whole ends the text: none is in what was shown.
        assert text.startswith(made) and not any(each in made for each in stop)
        assert any(text.startswith(each, len(made)) for each in stop)
    else:
        assert made == text and not ends


def test_nothing_of_an_incomplete_character_or_a_stop_string_is_shown():
    stream = TextStream(["END", "NOW"])
    assert [stream.push(part) for part in (b"a\xe2\x82", b"\xac E", b"N", b"D")] == [
        "a",
        "€ ",
        "",
        "",
    ]
    assert stream.stopped and stream.finish() == "" and stream.push(b"more") == ""


@pytest.mark.parametrize(
    "content, text", [(b"a\xe2\x82", "a\ufffd"), (b"\xff\xfeb", "\ufffd\ufffdb"), (b"EN", "EN")]
)
def test_what_stays_incomplete_is_shown_at_the_end(content, text):
    assert pushed(TextStream(["END"]), [content]) == text


@given(st.binary(max_size=20))
def test_any_bytes_give_the_text_that_python_gives(content):
    parts = [content[i : i + 1] for i in range(len(content))]
    assert pushed(TextStream(), parts) == content.decode(errors="replace")
