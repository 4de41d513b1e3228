"""Evaluators that measure within the program: scores, explanations, and what is recorded of them."""

import json
import operator
import statistics
import threading
from functools import partial

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backtalk import Variable, no_grad
from backtalk import cognitive as cog
from backtalk.autodiff.reply import judgement_in
from backtalk.functional import deterministic_evaluator, exact_match_evaluator
from backtalk.wire.codec import encode

PURPOSE = "difference in length"


def longer(prediction, target):
    return len(prediction) - len(target)


def answer(data, *, requires_grad=True):
    return Variable(data, role="answer", requires_grad=requires_grad)


def evaluated(prediction, target, eval_fn=longer, *options, **named):
    return deterministic_evaluator(prediction, target, eval_fn, PURPOSE, *options, **named)


def record_of(score):
    """Return the evaluation as it is on the tape."""
    (operation,) = score.graph().graph.operations
    return operation


# ---- E1, E2: score and explanation


def test_e1_score_and_explanation_say_what_they_are_of():
    """Both are Variables, with roles that name the prediction's."""
    score, explanation = evaluated(answer("abc"), "a")
    assert (score.data, score.role) == (2, "evaluation result score of answer")
    assert explanation.role == "evaluation result explanation of answer"


@pytest.mark.parametrize("wanted", [True, False])
def test_e1_both_require_a_gradient_where_the_prediction_does(wanted):
    """They follow the prediction, as the outputs of any operation follow what it reads."""
    outputs = evaluated(answer("abc", requires_grad=wanted), "a")
    assert [(one.requires_grad, one.is_leaf) for one in outputs] == [(wanted, not wanted)] * 2


def test_e1_both_are_outputs_of_one_operation():
    """The score is its first output and the explanation its second."""
    score, explanation = evaluated(answer("abc"), "a")
    assert score.grad_fn == explanation.grad_fn
    assert (score.output_nr, explanation.output_nr) == (0, 1)
    assert score.grad_fn.name() == "EvaluateBackward"


def test_nothing_is_recorded_within_no_grad():
    """The result is the same, and leads nowhere."""
    with no_grad():
        score, explanation = evaluated(answer("abc"), "a")
    assert score.data == 2
    assert score.grad_fn is explanation.grad_fn is None


def test_e2_of_one_value_the_explanation_quotes_both_and_the_score():
    """In words that depend on nothing else."""
    first, second = (evaluated(answer('say "é"'), "a")[1].data for _ in range(2))
    assert first == second == f'{PURPOSE}: the score of "say \\"é\\"" is 6. The target is "a".'


def test_e2_without_a_target_none_is_named():
    """A score of the prediction alone is explained by the prediction alone."""
    _, explanation = evaluated(answer("abc"), None, lambda found, _: len(found))
    assert explanation.data == f'{PURPOSE}: the score of "abc" is 3.'


def test_e2_of_a_batch_the_explanation_names_purpose_reduction_and_total():
    """The items are not listed, but recorded, where the backward worker finds each."""
    score, explanation = evaluated(answer(["abc", "de"]), ["a", "d"])
    assert explanation.data == f"{PURPOSE} of 2 items, by summation: 3"
    assert record_of(score).explanations == (
        f'{PURPOSE}: the score of "abc" is 2. The target is "a".',
        f'{PURPOSE}: the score of "de" is 1. The target is "d".',
    )


def test_e2_a_function_may_explain_itself():
    """It returns score and explanation, and its own words are kept."""

    def measure(found, wanted):
        return len(found) - len(wanted), f"{found} is too long."

    assert evaluated(answer("abc"), "a", measure)[1].data == "abc is too long."
    score, _ = evaluated(answer(["abc", "de"]), ["a", "d"], measure)
    assert record_of(score).explanations == ("abc is too long.", "de is too long.")


# ---- E3: one score of many


def test_e3_scores_of_a_batch_are_summed():
    """By default, and the tape says so."""
    score, _ = evaluated(answer(["abc", "d"]), ["a", "d"])
    record = record_of(score)
    assert (score.data, record.scores, record.reduction) == (2, (2, 0), "summation")


def test_e3_any_other_reduction_is_named_by_the_program():
    """The mean of two scores, which is no whole number."""
    score, explanation = evaluated(answer(["abc", "d"]), ["a", ""], longer, None, statistics.fmean, "mean")
    assert (score.data, record_of(score).reduction) == (1.5, "mean")
    assert explanation.data == f"{PURPOSE} of 2 items, by mean: 1.5"


def test_e3_without_a_reduction_the_scores_stay_apart():
    """A list of scores, aligned with the batch; the explanation names no total."""
    score, explanation = evaluated(answer(["abc", "d"]), ["a", "d"], longer, None, None, None)
    assert score.data == [2, 0]
    assert explanation.data == f"{PURPOSE} of 2 items"
    assert record_of(score).reduction is None


def test_e3_a_single_score_is_not_reduced():
    """There is nothing to add up."""
    score, _ = evaluated(answer("abc"), "a", longer, None, pytest.fail, "never called")
    assert (score.data, record_of(score).reduction) == (2, None)


@pytest.mark.parametrize(("reduce", "words"), [(None, "summation"), (sum, None)])
def test_e3_a_reduction_and_its_words_go_together(reduce, words):
    """A total that nobody can name, or a name without a total, is a mistake."""
    with pytest.raises(ValueError, match="reduction_fn and reduction_fn_purpose go together"):
        evaluated(answer(["a"]), ["a"], longer, None, reduce, words)


def test_e3_a_function_may_measure_the_whole_batch():
    """It is called once, with both lists."""
    seen = []

    def measure(found, wanted):
        seen.append((found, wanted))
        return [len(one) for one in found]

    score, _ = evaluated(answer(["abc", "d"]), ["x", "y"], measure, per_batch=True)
    assert seen == [(["abc", "d"], ["x", "y"])]
    assert record_of(score).scores == (3, 1)


def test_e3_a_function_of_the_batch_may_explain_each_item():
    """A list of scores and explanations."""
    score, _ = evaluated(
        answer(["abc", "d"]),
        ["x", "y"],
        lambda found, _: [(len(one), f"{one}!") for one in found],
        per_batch=True,
    )
    assert record_of(score).explanations == ("abc!", "d!")


def test_e3_a_function_of_the_batch_returns_one_score_for_each_item():
    """Any other number is a mistake that names both."""
    with pytest.raises(ValueError, match="returned 1 scores for 2 items"):
        evaluated(answer(["abc", "d"]), ["x", "y"], lambda *_: [1], per_batch=True)


def test_e3_a_function_of_the_batch_serves_a_single_value():
    """It gets lists of one."""
    score, _ = evaluated(answer("abc"), "x", lambda found, wanted: [len(found + wanted)], per_batch=True)
    assert score.data == 2


# ---- E4: prediction and target


@pytest.mark.parametrize(
    ("prediction", "target", "told"),
    [
        (["a", "b"], ["a"], "predictions: 2, targets: 1"),
        (["a"], ["a", "b"], "predictions: 1, targets: 2"),
        (["a", "b"], "a", "predictions: 2, targets: one"),
        ("a", ["a"], "predictions: one, targets: 1"),
        (["a", "b"], Variable(["a", "b", "c"]), "predictions: 2, targets: 3"),
        ("a", Variable(["a"]), "predictions: one, targets: 1"),
    ],
)
@pytest.mark.parametrize("evaluator", [evaluated, exact_match_evaluator])
def test_e4_prediction_and_target_have_one_length(evaluator, prediction, target, told):
    """A target for each prediction, in whatever form it comes."""
    with pytest.raises(ValueError, match=told):
        evaluator(answer(prediction), target)


@pytest.mark.parametrize("target", [["a", "d"], ("a", "d"), Variable(["a", "d"])])
def test_e4_targets_travel(target):
    """They are on the tape, whether they came as a list or as a Variable."""
    score, _ = evaluated(answer(["abc", "d"]), target)
    assert record_of(score).targets == ("a", "d")


def test_e4_a_single_target_travels():
    """As a list of one; without a target there is none."""
    assert record_of(evaluated(answer("abc"), Variable("a"))[0]).targets == ("a",)
    assert record_of(evaluated(answer("abc"), None, lambda *_: 1)[0]).targets is None


def test_e4_numbers_are_predictions_and_targets_as_well():
    """Not everything is a text."""
    score, _ = evaluated(answer([1, 2.5]), [1, 2], lambda found, wanted: found - wanted)
    assert (score.data, record_of(score).targets) == (0.5, (1, 2))


# ---- E5: success


@pytest.mark.parametrize(
    ("success", "expected"),
    [
        (None, (False, False)),
        (lambda scores: sum(scores) >= 2, (True, True)),
        (lambda scores: all(score == 0 for score in scores), (False, True)),
        (lambda scores: len(scores) == 2, (True, True)),
        (lambda _: False, (False, False)),
    ],
    ids=["none", "all together", "one by itself", "by number", "never"],
)
def test_e5_success_is_asked_of_all_scores_and_else_of_each(success, expected):
    """What is a success together is one for every item; otherwise an item may be one by itself."""
    score, _ = evaluated(answer(["abc", "d"]), ["a", "d"], longer, success)
    assert record_of(score).succeeded == expected


def test_e5_exact_match_has_it_built_in():
    """A hit is a success, and a miss is none."""
    score, _ = exact_match_evaluator(answer(["Rome", "Bonn"]), ["Rome", "Lima"])
    assert record_of(score).succeeded == (True, False)
    whole, _ = exact_match_evaluator(answer("Rome"), "Rome")
    assert record_of(whole).succeeded == (True,)


def test_exact_match_explains_hits_and_misses():
    """Each names what was found, and what was wanted."""
    score, explanation = exact_match_evaluator(answer(["Rome", "Bonn"]), ["Rome", "Lima"])
    assert record_of(score).explanations == (
        'It is exactly "Rome", as it should be.',
        'It is "Bonn"; it should be exactly "Lima".',
    )
    assert explanation.data == "exact match of 2 items, by summation: 1"


TEXTS = st.text("ab", max_size=2)
SCALARS = TEXTS | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, 0.5])
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1) | st.lists(
    st.tuples(st.integers(-2, 2), SCALARS), min_size=1
)


@given(PAIRS)
def test_exact_match_agrees_with_equality(pairs):
    """Of any texts and numbers, item by item and in sum."""
    found, wanted = zip(*pairs, strict=True)
    score, _ = exact_match_evaluator(answer(found), wanted)
    hits = [one == other for one, other in pairs]
    assert (score.data, list(record_of(score).succeeded)) == (sum(hits), hits)
    assert list(record_of(score).scores) == [int(hit) for hit in hits]


@given(SCALARS, SCALARS)
def test_exact_match_of_one_value_agrees_with_equality(found, wanted):
    """Alone it is the same as in a batch."""
    score, _ = exact_match_evaluator(answer(found), wanted)
    assert score.data == int(found == wanted)


# ---- failed items


def test_an_item_that_failed_is_not_measured():
    """It has no score, counts for nothing, and is no success; the others are as they would be."""
    seen = []

    def measure(found, wanted):
        seen.append(found)
        return longer(found, wanted)

    score, explanation = evaluated(answer(["abc", None, "d"]), ["a", "b", "d"], measure)
    record = record_of(score)
    assert seen == ["abc", "d"]
    assert (score.data, record.scores, record.succeeded) == (2, (2, None, 0), (False,) * 3)
    assert explanation.data == f"{PURPOSE} of 3 items, by summation: 2"


def test_an_item_that_failed_keeps_its_place_in_a_list_of_scores():
    """Scores stay aligned with the batch."""
    score, _ = evaluated(answer(["abc", None, "d"]), ["a", "b", "d"], longer, None, None, None)
    assert score.data == [2, None, 0]


def test_an_item_that_failed_is_left_out_of_what_a_function_of_the_batch_gets():
    """And of what it returns."""
    score, _ = evaluated(
        answer(["abc", None, "d"]),
        ["a", "b", "c"],
        lambda _, wanted: [ord(one) for one in wanted],
        per_batch=True,
    )
    assert record_of(score).scores == (97, None, 99)


def test_a_function_of_the_batch_is_not_called_where_every_item_failed():
    """There is nothing to measure: that is what the error says, and not what the function makes of empty lists."""
    failed = answer([None, None])
    with pytest.raises(ValueError, match="no item has a score"):
        evaluated(failed, ["a", "b"], lambda found, _: [1 / len(found)], per_batch=True)
    score, _ = evaluated(failed, ["a", "b"], pytest.fail, None, None, None, per_batch=True)
    assert score.data == [None, None]


def test_a_batch_with_a_failed_item_is_no_success_as_a_whole():
    """Success is then asked of each item that is there, and never of a list that lacks some."""
    asked = []

    def success(scores):
        asked.append(scores)
        return True

    score, _ = evaluated(answer(["abc", None]), ["a", "b"], longer, success)
    assert (asked, record_of(score).succeeded) == ([[2]], (True, False))


# ---- E8: callables


class Ruler:
    lock = threading.Lock()

    def measure(self, found, wanted):
        with self.lock:
            return longer(found, wanted)

    def __call__(self, found, wanted):
        return self.measure(found, wanted)


def within(limit):
    lock = threading.Lock()

    def nested(found, wanted):
        with lock:
            return min(limit, longer(found, wanted))

    return nested


@pytest.mark.parametrize(
    "eval_fn",
    [
        lambda found, wanted: len(found) - len(wanted),
        within(9),
        Ruler().measure,
        Ruler(),
        partial(lambda bonus, found, wanted: longer(found, wanted) + bonus, 0),
    ],
    ids=["lambda", "closure", "method", "object", "partial"],
)
def test_e8_any_callable_measures(eval_fn):
    """Nothing is pickled or registered, so what holds a lock works as well as a plain function."""
    assert evaluated(answer("abc"), "a", eval_fn)[0].data == 2


def test_e8_a_builtin_that_says_yes_or_no_measures():
    """Yes is 1, and no is 0."""
    score, _ = evaluated(answer(["a", "b"]), ["a", "c"], operator.eq)
    assert record_of(score).scores == (1, 0)
    assert score.data == 1


def test_e8_what_a_function_raises_comes_through():
    """Nothing is wrapped, and nothing is recorded."""
    with pytest.raises(ZeroDivisionError):
        evaluated(answer("abc"), "a", lambda *_: 1 / 0)


# ---- E9: defaults, and errors


def test_e9_four_arguments_are_enough():
    """The function has the defaults that the module has, and both give the same."""
    by_function = deterministic_evaluator(answer(["abc", "d"]), ["a", "d"], longer, PURPOSE)
    by_module = cog.DeterministicEvaluator()(answer(["abc", "d"]), ["a", "d"], longer, PURPOSE)
    assert [one.data for one in by_function] == [one.data for one in by_module]
    hits = cog.ExactMatchEvaluator()(answer(["a", "b"]), ["a", "c"], statistics.fmean, "mean")
    assert hits[0].data == 0.5


async def test_modules_that_ask_nobody_can_be_awaited():
    """Without a connection, and without a thread."""
    score, _ = await cog.ExactMatchEvaluator().acall(answer("a"), "a")
    assert score.data == 1


def test_purposes_may_be_variables():
    """Their texts are what counts."""
    score, explanation = deterministic_evaluator(
        answer(["abc"]), ["a"], longer, Variable("surplus"), None, sum, Variable("total")
    )
    assert explanation.data == "surplus of 1 items, by total: 2"
    assert (record_of(score).purpose, record_of(score).reduction) == ("surplus", "total")


@pytest.mark.parametrize("target", [{"a": 1}, {"a"}, object(), 1j], ids=["dict", "set", "object", "complex"])
def test_a_target_that_is_no_data_is_refused_by_its_type(target):
    """Whatever the measure would make of it: alone, and in a list beside others."""
    for evaluator in (evaluated, exact_match_evaluator):
        with pytest.raises(TypeError, match=type(target).__name__):
            evaluator(answer("abc"), target)
        with pytest.raises(TypeError, match=type(target).__name__):
            evaluator(answer(["abc", "d"]), [target, "d"])


@pytest.mark.parametrize(
    "score", [float("nan"), float("inf"), float("-inf"), 10**400], ids=["nan", "inf", "-inf", "huge"]
)
@pytest.mark.parametrize("words", [False, True], ids=["alone", "explained"])
def test_a_score_is_finite(score, words):
    """No message could hold it, so it is refused where it comes from."""
    with pytest.raises(ValueError, match=r"eval_fn returned .* a score must be finite"):
        evaluated(answer("abc"), "a", lambda *_: (score, "why") if words else score)
    with pytest.raises(ValueError, match=r"eval_fn returned .* a score must be finite"):
        evaluated(answer(["abc", "d"]), ["a", "b"], lambda *_: [1, score], per_batch=True)


def test_an_explanation_may_hold_half_of_a_character():
    """It becomes a question mark, so that the evaluation can be sent."""
    score, explanation = evaluated(answer("abc"), "a", lambda *_: (1, "too \ud83d loud"))
    assert explanation.data == "too ? loud"
    assert record_of(score).explanations == ("too ? loud",)
    assert b"too ? loud" in encode(score.graph().graph)


@pytest.mark.parametrize("evaluator", [evaluated, exact_match_evaluator])
def test_where_no_item_has_a_score_there_is_nothing_to_reduce(evaluator):
    """The error says so, and not that some function was given an empty list; without a reduction there is none."""
    failed = answer([None, None])
    with pytest.raises(ValueError, match="no item has a score, so there is nothing to reduce"):
        evaluator(failed, ["a", "b"])
    with pytest.raises(ValueError, match="no item has a score"):
        evaluated(failed, ["a", "b"], longer, None, statistics.fmean, "mean")
    assert evaluated(failed, ["a", "b"], longer, None, None, None)[0].data == [None, None]


@pytest.mark.parametrize("result", ["2", None, [2], ("2", "words"), {"score": 2}])
def test_a_score_is_a_number(result):
    """Whatever else a function returns is refused by its type."""
    wrong = result[0] if isinstance(result, tuple) else result
    with pytest.raises(TypeError, match=f"eval_fn returned {type(wrong).__name__}; a score must be a number"):
        evaluated(answer("abc"), "a", lambda *_: result)


def test_a_total_is_a_number():
    """So is what a reduction returns."""
    with pytest.raises(TypeError, match="reduction_fn returned str"):
        evaluated(answer(["abc"]), ["a"], longer, None, str, "as text")


def test_a_total_is_no_list():
    """Scores that stay apart have no reduction."""
    with pytest.raises(TypeError, match="reduction_fn returned list"):
        evaluated(answer(["abc", "d"]), ["a", "d"], longer, None, list, "all of them")


def test_a_prediction_is_a_variable():
    """A plain text has no gradient to get."""
    with pytest.raises(TypeError, match="the prediction must be a Variable, not str"):
        evaluated("abc", "a")


# ---- E7: what a judge says


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('{"score": 0.5, "explanation": "Half."}', (0.5, "Half.")),
        ('Sure! ```json\n{"score": 1, "explanation": "All."}\n```', (1, "All.")),
        ('{"why": {"score": 3}} {"score": 2}', (2, "")),
        ('In the form {"score": 0, "explanation": "…"}: {"score": 4}', (4, "")),
        ('<think>{"score": 0}</think>{"score": 1, "explanation": null}', (1, "")),
        ('{broken {"score": "4.5", "explanation": "In quotes."}', (4.5, "In quotes.")),
        ('{"score": true}', (1, "")),
        ('{"score": "+3"}', (3, "")),
        ('{"score": "05"}', (5, "")),
        ('{"score": "high"}', None),
        ('{"score": NaN}', None),
        ('{"score": null, "explanation": "?"}', None),
        ("Four out of five.", None),
        ("", None),
        ('<think>{"score": 1}', None),
    ],
)
def test_e7_a_judgement_is_found_in_whatever_stands_around_it(reply, expected):
    """The first JSON object with a number as score counts, thoughts do not."""
    assert judgement_in(reply) == expected


@given(st.integers() | st.floats() | st.text("0123456789.-+ e", max_size=8) | st.booleans() | st.none())
@example("05")
@example(10**400)
def test_e7_no_score_breaks_the_reading(score):
    """It is a number, or none; never an error."""
    found = judgement_in(json.dumps({"score": score}))
    assert found is None or isinstance(found[0], int | float)


def test_e7_a_number_of_400_digits_is_no_score():
    """Some models do not stop; nothing breaks."""
    assert judgement_in('{"score": 1' + "0" * 400 + "}") in (None, (10**400, ""))


DEEP = '{"a":' * 5000 + "1" + "}" * 5000
SCORE = '{"score": 2, "explanation": "So."}'


@pytest.mark.parametrize(
    "junk",
    [
        DEEP,
        DEEP.replace("}", ""),
        '{"a": ' + "[" * 5000 + "]" * 5000 + "}",
        "{" * 5000,
        '{"score": 1' + "0" * 5000 + "}",
        '{"score": "1' + "0" * 5000 + '"}',
    ],
    ids=["deep", "open", "lists", "braces", "digits", "digits in quotes"],
)
def test_e7_nothing_that_a_judge_may_write_breaks_the_reading(junk):
    """By itself it is no judgement, and behind one it does no harm."""
    assert judgement_in(junk) is None
    assert judgement_in(f"{SCORE}\n{junk}") == (2, "So.")


@pytest.mark.parametrize(
    "before",
    [
        '{"score": 0} ' * 3,
        '{"score": 0} ' * 150,
        'f"{name}" ' * 200,
        "{" * 5000,
    ],
    ids=["three drafts", "many drafts", "code", "braces"],
)
def test_e7_the_last_judgement_counts_whatever_stands_before_it(before):
    """Drafts, and code that the judge quotes, however much of it."""
    assert judgement_in(f"{before}\n{SCORE}") == (2, "So.")


def test_e7_an_explanation_may_hold_half_of_a_character():
    """Some models cut an emoji in two: it becomes a question mark, so that the judgement can be recorded."""
    found = judgement_in('{"score": 1, "explanation": "fine \\ud83d."}')
    assert found == (1, "fine ?.")
    assert judgement_in('{"score": 1, "explanation": "\\ud83d\\ude00"}') == (1, "\U0001f600")
    nested = judgement_in('{"score": 1, "explanation": {"why": "\\ud83d"}}')
    assert nested[1].encode()
