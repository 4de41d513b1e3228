"""Data in batches: orders that follow from seeds, and examples put together."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtalk import Parameter, Variable
from backtalk.data import (
    DataLoader,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    WeightedRandomSampler,
    collate,
    random_split,
)

TEN = list("abcdefghij")


def flat(loader):
    """Return the examples of one round, in their order."""
    return [item for batch in loader for item in batch.data]


# ---- loaders


def test_d1_batches_come_in_order_and_the_last_is_smaller():
    loader = DataLoader(TEN, batch_size=4)
    assert [batch.data for batch in loader] == [TEN[:4], TEN[4:8], TEN[8:]]
    assert [batch.data for batch in loader] == [TEN[:4], TEN[4:8], TEN[8:]]
    assert len(loader) == 3


def test_d1_the_last_batch_may_be_dropped():
    loader = DataLoader(TEN, batch_size=4, drop_last=True)
    assert [len(batch.data) for batch in loader] == [4, 4]
    assert len(loader) == 2


def test_d1_shuffled_orders_follow_from_the_seed():
    """Two loaders of one seed agree epoch for epoch, one of another seed does not; every epoch has all examples."""
    one, same, other = (DataLoader(TEN, 3, shuffle=True, seed=seed) for seed in (1, 1, 2))
    epochs = [flat(one) for _ in range(3)]
    assert [flat(same) for _ in range(3)] == epochs
    assert [flat(other) for _ in range(3)] != epochs
    assert all(sorted(epoch) == TEN for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_an_epoch_can_be_taken_again_from_the_middle():
    """What was already taken is not even read."""
    read = []

    class Noted(list):
        def __getitem__(self, at):
            read.append(at)
            return super().__getitem__(at)

    loader = DataLoader(Noted(TEN), 4, shuffle=True)
    epochs = [[batch.data for batch in loader] for _ in range(2)]
    loader.set_epoch(1)
    read.clear()
    assert [batch.data for batch in loader.batches(2)] == epochs[1][2:]
    assert len(read) == 2


def test_a_sampler_of_ones_own_decides():
    """Also on how many batches there are; it need not know of epochs."""
    loader = DataLoader(TEN, 2, sampler=[9, 9, 0])
    loader.set_epoch(4)
    assert [batch.data for batch in loader] == [["j", "j"], ["a"]]
    assert len(loader) == 2


def test_a_sampler_of_nothing_gives_nothing():
    assert list(DataLoader(TEN, 2, sampler=[])) == []


@pytest.mark.parametrize("size", [0, -1, 2.5, True])
def test_a_batch_has_at_least_one_example(size):
    with pytest.raises(ValueError, match="batch_size"):
        DataLoader(TEN, batch_size=size)


def test_shuffle_and_sampler_exclude_each_other():
    with pytest.raises(ValueError, match="both decide"):
        DataLoader(TEN, shuffle=True, sampler=[1])


def test_collate_fn_makes_the_batch():
    assert list(DataLoader(TEN[:3], 2, collate_fn="".join)) == ["ab", "c"]


# ---- samplers


def test_d3_samplers_are_samplers():
    made = [SequentialSampler(TEN), RandomSampler(TEN), WeightedRandomSampler([1, 2], 5)]
    assert all(isinstance(one, Sampler) for one in made)
    assert [len(one) for one in made] == [10, 10, 5]
    assert [len(list(one)) for one in made] == [10, 10, 5]


def test_d3_weights_are_how_often():
    """Of a thousand, 1 to 3 to nothing."""
    taken = Counter(WeightedRandomSampler([1, 3, 0], 1000))
    assert taken[2] == 0
    assert 200 < taken[0] < 300


def test_d3_without_replacement_none_comes_twice():
    """And what weighs more comes earlier."""
    sampler = WeightedRandomSampler([1, 0, 100, 1], 3, replacement=False)
    rounds = [list(sampler) for _ in range(100)]
    assert all(sorted(one) == [0, 2, 3] for one in rounds)
    assert sum(one[0] == 2 for one in rounds) > 90


def test_d3_weighted_orders_follow_from_seed_and_epoch():
    for replacement in (True, False):
        one, same = (WeightedRandomSampler([1] * 9, 5, replacement, seed=3) for _ in range(2))
        first, second = list(one), list(one)
        assert [list(same), list(same)] == [first, second]
        assert first != second
        one.set_epoch(0)
        assert list(one) == first


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (([], 1), "none above 0"),
        (([0, 0], 1), "none above 0"),
        (([1, -1], 1), "found -1"),
        (([1, float("inf")], 1), "found inf"),
        (([1, float("nan")], 1), "found nan"),
        (([1, 1], 0), "num_samples is 0"),
        (([1, 1, 0], 3, False), "3 of 2 examples"),
    ],
)
def test_weights_that_cannot_be_drawn_by(arguments, reason):
    with pytest.raises(ValueError, match=reason):
        WeightedRandomSampler(*arguments)


# ---- division


@given(st.integers(1, 60), st.integers(0, 5))
def test_a_split_has_every_example_once(total, seed):
    parts = random_split(range(total), [0.5, 0.3, 0.2], seed=seed)
    assert sorted(example for part in parts for example in part) == list(range(total))
    assert parts[0].indexes == random_split(range(total), [0.5, 0.3, 0.2], seed=seed)[0].indexes


def test_a_split_by_numbers():
    parts = random_split(TEN, [7, 3])
    assert [len(part) for part in parts] == [7, 3]
    assert parts[0].indexes != tuple(range(7))


def test_fractions_come_as_near_as_they_can():
    assert [len(part) for part in random_split(range(100), [0.29, 0.71])] == [29, 71]


@pytest.mark.parametrize("lengths", [[7, 4], [0.5, 0.4], [11, -1], []])
def test_a_split_that_does_not_add_up(lengths):
    with pytest.raises(ValueError, match="lengths"):
        random_split(TEN, lengths)


def test_a_part_is_a_sequence():
    """So that labels can be read off it."""
    part = Subset(TEN, [3, 1])
    assert (list(part), part[-1], "d" in part) == (["d", "b"], "b", True)


# ---- batches


def test_d2_tuples_of_variables_become_a_tuple_of_batches():
    """However deep; roles and whether a gradient is wanted are those of the first."""
    examples = [
        (Parameter(f"mail {at}", role="mail"), (Variable(at, role="urgency"), Variable("x", role="mood")))
        for at in range(2)
    ]
    mails, (urgency, mood) = collate(examples)
    assert (mails.data, mails.role, mails.requires_grad) == (["mail 0", "mail 1"], "mail", True)
    assert (urgency.data, urgency.role, urgency.requires_grad) == ([0, 1], "urgency", False)
    assert mood.data == ["x", "x"]


def test_d2_variables_become_one():
    batch = collate([Variable("a", role="word"), Variable("b", role="word")])
    assert (batch.data, batch.role) == (["a", "b"], "word")


def test_dicts_keep_their_keys_and_give_roles():
    batch = collate([{"mail": "a", "at": 1, "tags": ["x"]}, {"mail": "b", "at": 2, "tags": []}])
    assert (batch["mail"].data, batch["mail"].role) == (["a", "b"], "mail")
    assert batch["at"].data == [1, 2]
    assert batch["tags"] == [["x"], []]


def test_one_example_is_a_batch_of_one():
    assert collate(["a"]).data == ["a"]


@pytest.mark.parametrize("examples", [[None, None], [object(), object()], [["a"], ["b"]], ["a", None]])
def test_what_no_variable_can_hold_stays_a_list(examples):
    assert collate(examples) == examples


@pytest.mark.parametrize(
    ("examples", "reason"),
    [
        ([("a", "b"), ("a",)], "example 1 of the batch has other fields"),
        ([("a", "b"), "a"], "other fields"),
        ([{"a": 1}, {"a": 1}, {"b": 1}], "example 2 of the batch has other keys"),
        ([{"a": {"b": 1}}, {"a": {}}], "other keys of 'a'"),
        ([{"a": 1}, 1], "other keys"),
    ],
)
def test_examples_of_different_shapes_are_refused(examples, reason):
    with pytest.raises(ValueError, match=reason):
        collate(examples)


def test_texts_and_numbers_do_not_mix():
    """A Variable says so."""
    with pytest.raises(TypeError, match="texts only or numbers only"):
        collate(["a", 1])
