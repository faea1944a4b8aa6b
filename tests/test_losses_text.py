"""A loss as text: what may be written, and what is said about the rest."""

from __future__ import annotations

import pytest

from fxclone.errors import UsageError
from fxclone_training.losses_text import LossText, TermText


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("esr", [(1, "esr", None)]),
        ("esr+0.2*mrstft", [(1, "esr", None), (0.2, "mrstft", None)]),
        (" esr : a + 1e-2 * dc ", [(1, "esr", "a"), (0.01, "dc", None)]),
        ("1e+1*esr+.5*l1:pre", [(10, "esr", None), (0.5, "l1", "pre")]),
        ("a+2*pre", [(1, "esr", "a"), (2, "esr", "pre")]),
    ],
)
def test_reads(text, terms):
    assert LossText.parse(text).terms == tuple(TermText(*term) for term in terms)


@pytest.mark.parametrize(
    ("text", "plain"), [("mse", "mse"), (" 1*esr + 0.20*mrstft", "esr+0.2*mrstft"), ("a+dc", "esr:a+dc")]
)
def test_writes_what_it_reads(text, plain):
    assert str(LossText.parse(text)) == plain
    assert LossText.parse(plain) == LossText.parse(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the loss is empty; expected a sum"),
        ("esrr", "no term 'esrr'; did you mean esr?"),
        ("esr+", "no term ''"),
        ("esr+stft", "did you mean mrstft?"),
        ("esr-0.1*dc", "no term 'esr-0.1*dc'|the weight is 'esr-0.1'"),
        ("esr+-0.1*dc", "the weight is '-0.1'; expected a number above 0"),
        ("0*esr", "the weight is '0'"),
        ("nan*esr", "the weight is 'nan'"),
        ("inf*esr", "the weight is 'inf'"),
        ("twice*esr", "the weight is 'twice'"),
        ("0.2esr", "no term '0.2esr'"),
        ("esr:b", "no filter 'b'"),
        ("esr:", "no filter ''"),
        ("esr+dc:a", "dc takes no filter"),
        ("esr+0.5*esr", "has esr twice"),
        ("esr:a+a", "has esr:a twice"),
        ("mrstft", "cannot see an inverted or shifted sound; add a term that does, such as esr\\+mrstft"),
        ("mrstft+dc", "cannot see an inverted"),
        ("dc", "sees only offset"),
    ],
)
def test_says_what_is_wrong(text, says):
    with pytest.raises(UsageError, match=says) as seen:
        LossText.parse(text)
    assert "\n" not in str(seen.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [("esr+mrstft", "inverted"), ("a", "consider esr:a+0.1*esr"), ("a+dc", "lows"), ("0.1*a+mrstft", "inverted")],
)
def test_advises(text, says):
    assert any(says in sentence for sentence in LossText.parse(text).advice)


@pytest.mark.parametrize("text", ["esr", "mse", "esr+0.01*mrstft", "a+0.1*esr", "pre", "pre+dc"])
def test_has_nothing_to_say(text):
    assert LossText.parse(text).advice == ()


@pytest.mark.parametrize(
    ("text", "quadratic", "relative"),
    [
        ("esr", True, True),
        ("mse", True, False),
        ("esr+mse", True, True),
        ("0.1*esr+mse", True, False),
        ("esr:a", False, True),
        ("mse+dc", False, False),
        ("l1", False, True),
    ],
)
def test_what_trainers_ask(text, quadratic, relative):
    loss = LossText.parse(text)
    assert (loss.is_quadratic, loss.is_relative) == (quadratic, relative)
