"""How much a text takes, and how it is cut."""

import re

import pytest

from backward_worker.tokens import cap_for, cut, estimated

MARK = re.compile(r"\n\[… (\d+) characters left out …\]\n")


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("ä" * 4, 2), ("語" * 4, 3), ("🙂", 1)]
)
def test_a_token_is_four_bytes_begun(text, tokens):
    """Nothing is nothing, and a script of many bytes takes many tokens."""
    assert estimated(text) == tokens


def test_half_of_a_pair_has_a_size_as_well():
    """What no encoding can write was counted before it is refused."""
    assert estimated("\ud800") == 1


@pytest.mark.parametrize("text", ["", "short", "x" * 400, "語" * 133])
def test_what_fits_stays_as_it_is(text):
    """To the letter."""
    assert cut(text, 100) == text


@pytest.mark.parametrize("script", ["abcd efg ", "Füße über ", "漢字かな", "🙂🙃", "a語"], ids=repr)
@pytest.mark.parametrize("tokens", [0, 1, 2, 3, 20, 21, 500])
def test_what_is_too_long_loses_its_middle_and_says_how_much(script, tokens):
    """The beginning and the end stand, what is missing is counted, and what is kept fits."""
    text = script * 3000
    (mark,) = MARK.finditer(cut(text, tokens))
    head, tail = cut(text, tokens)[: mark.start()], cut(text, tokens)[mark.end() :]
    assert text.startswith(head)
    assert text.endswith(tail)
    assert len(head) + len(tail) + int(mark[1]) == len(text)
    assert estimated(head + tail) <= tokens + 1
    assert 0 <= len(head) - len(tail) <= 1


def test_a_cut_text_takes_no_more_than_it_was_given():
    """The mark takes room as well, and a prompt has many of them."""
    for tokens in (20, 25, 50, 100):
        assert estimated(cut("word " * 3000, tokens)) <= tokens


@pytest.mark.parametrize(
    ("sizes", "total", "cap"),
    [
        ([], 10, 0),
        ([5], 10, 5),
        ([5, 5], 10, 5),
        ([50, 50], 10, 5),
        ([1, 50], 10, 9),
        ([1, 2, 50, 60], 23, 10),
        ([50], 0, 0),
        ([0, 0], 0, 0),
        ([7, 7, 7], 2, 0),
    ],
)
def test_short_texts_stay_whole_and_long_ones_share_the_rest(sizes, total, cap):
    """One cap for all."""
    assert cap_for(sizes, total) == cap


@pytest.mark.parametrize("total", [0, 1, 17, 100, 1000, 5000])
def test_under_the_cap_everything_fits_and_nothing_more_would(total):
    """The cap is the largest one."""
    sizes = [3, 1, 400, 15, 92, 65, 35, 897, 9, 32]

    def taken(cap):
        return sum(min(size, cap) for size in sizes)

    cap = cap_for(iter(sizes), total)
    assert taken(cap) <= total
    assert cap == max(sizes) or taken(cap + 1) > total
