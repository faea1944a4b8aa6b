"""The text that names an effect: ``highpass(cutoff_hz=200) > distortion(drive_db=20)``.

Grammar::

    chain  = link (">" link)*
    link   = (NAME | PLACE) ["(" [value ("," value)*] ")"]
    value  = [NAME "="] (WORD | STRING)

A WORD runs up to the next space or one of ``( ) , = > "``; whether it is a number, a switch or a word is decided by
the setting that it is for. A STRING stands in single or double quotes, with backslash for a quote inside. A PLACE is
``vst3:`` or ``au:`` and a plugin's name or path, or ``nam:`` and the path of a .nam file, in quotes if that holds one
of ``( ) , = > " '``; a path with spaces that ends in ``.vst3``, ``.component`` or ``.nam`` needs none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from fxclone.errors import UsageError

_PLACE = r"""(?i:vst3|au|nam):(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'
    |[^"'(),=>]*?\.(?i:vst3|component|nam)(?=[\s(),=>\#]|$)(?:\#[^\s(),=>"']*)?|[^\s(),=>"']*)"""
_TOKEN = re.compile(
    rf"""\s*(?:(?P<place>{_PLACE})
    |(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|(?P<punct>[(),=>])|(?P<word>[^\s(),=>"']+))""",
    re.VERBOSE,
)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\Z")
_SETTING = re.compile(r"\w[\w-]*\Z")  # plugins have some that begin with a digit, or are not English
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_TEXT = ("word", "string", "place")
_PLAIN = re.compile(r"""[^\s(),=>"'\\]+\Z""")
SCHEMES = ("vst3", "au", "nam")
MAX_LENGTH = 20_000


@dataclass
class Link:
    """One effect of a chain as written: its name, the values in order, and the named ones.

    What is found by its place has a scheme ("vst3", "au", "nam"), and its name is a path or a name after that.
    """

    name: str
    position: int
    positional: list[str] = field(default_factory=list)
    named: dict[str, str] = field(default_factory=dict)
    scheme: str = ""


@dataclass(frozen=True)
class _Token:
    kind: str  # "word", "string", "end" or the punctuation mark itself
    text: str
    position: int  # counted from 1, for people


def parse_chain(text: str) -> list[Link]:
    """Take an effect expression apart.

    Raises
    ------
    UsageError
        If it does not follow the grammar; the message says at which character.
    """
    if len(text) > MAX_LENGTH:
        raise UsageError(f"the effect has {len(text)} characters; expected at most {MAX_LENGTH}")
    return _Parser(text).chain()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._tokenize(text)
        self._next = 0

    def _tokenize(self, text: str) -> list[_Token]:
        tokens, at = [], 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if match is None:
                at += len(text[at:]) - len(text[at:].lstrip())
                self._fail("a quote that is never closed", at + 1)
            kind = match.lastgroup or ""
            found = match.group(kind)
            if kind == "string":
                found = re.sub(r"\\(.)", r"\1", found[1:-1])
            elif kind == "punct":
                kind = found
            tokens.append(_Token(kind, found, match.start(match.lastgroup or 0) + 1))
            at = match.end()
        return [*tokens, _Token("end", "", len(text) + 1)]

    def chain(self) -> list[Link]:
        links = [self._link()]
        while self._accept(">"):
            links.append(self._link())
        if self._peek().kind != "end":
            self._fail(f'"{self._peek().text}" where ">" or the end was expected', self._peek().position)
        return links

    def _link(self) -> Link:
        link = self._head()
        if self._accept("(") and not self._accept(")"):
            self._value(link)
            while self._accept(","):
                self._value(link)
            self._take(")", '"," or ")"')
        return link

    def _head(self) -> Link:
        """The name of an effect, or the place of one, which may stand in quotes as a whole."""
        token = self._peek()
        scheme = _SCHEME.match(token.text) if token.kind in _TEXT else None
        if token.kind == "place" or (scheme and scheme[1].lower() in SCHEMES):
            self._next += 1
            kind, _, place = token.text.partition(":")
            if token.kind == "place" and place[:1] in ("'", '"'):
                place = _unquoted(place)
            return Link(place.strip(), token.position, scheme=kind.lower())
        self._take("word", "the name of an effect")
        if scheme:
            raise UsageError(
                f'"{scheme[1]}:" at character {token.position} is not a source of effects here; expected vst3: or au: '
                "before a plugin, nam: before a .nam file, or the name of an effect (fxclone effects lists them)"
            )
        if not _NAME.match(token.text):
            self._fail(f'"{token.text}" where the name of an effect was expected', token.position)
        return Link(token.text, token.position)

    def _value(self, link: Link) -> None:
        token = self._peek()
        if token.kind not in _TEXT:
            self._fail(f"{_shown(token)} where a setting such as name=value was expected", token.position)
        self._next += 1
        if self._accept("="):
            if token.kind != "word" or not _SETTING.match(token.text):
                self._fail(f'"{token.text}" is not the name of a setting', token.position)
            if token.text in link.named:
                self._fail(f"{token.text} is set twice", token.position)
            value = self._peek()
            if value.kind not in _TEXT:
                self._fail(f"{_shown(value)} where a value for {token.text} was expected", value.position)
            self._next += 1
            link.named[token.text] = value.text
        elif link.named:
            self._fail(f'"{token.text}" has no name, but comes after a named setting', token.position)
        else:
            link.positional.append(token.text)

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _accept(self, kind: str) -> bool:
        if self._peek().kind != kind:
            return False
        self._next += 1
        return True

    def _take(self, kind: str, expected: str) -> _Token:
        token = self._peek()
        if token.kind != kind:
            self._fail(f"{_shown(token)} where {expected} was expected", token.position)
        self._next += 1
        return token

    def _fail(self, what: str, position: int) -> NoReturn:
        raise UsageError(
            f'cannot read the effect "{self._text}": {what} (character {position}); write it like '
            '"highpass(cutoff_hz=200) > distortion(drive_db=20)"'
        )


def written_address(scheme: str, place: str) -> str:
    """Text that an effect expression reads back as this place."""
    if _PLAIN.match(place):
        return f"{scheme}:{place}"
    escaped = place.replace("\\", "\\\\").replace('"', '\\"')
    return f'{scheme}:"{escaped}"'


def _unquoted(text: str) -> str:
    """A path in quotes; a backslash before anything but a quote or another one is one of Windows."""
    return re.sub(r"""\\(["'\\])""", r"\1", text[1:-1])


def _shown(token: _Token) -> str:
    return "the end" if token.kind == "end" else f'"{token.text}"'


def parse_settings(assignments: Iterable[str]) -> dict[str, str]:
    """Take ``--set name=value`` texts apart, for `fxclone.effects.effect`.

    Raises
    ------
    UsageError
        If one has no ``=`` or no name, or a name comes twice.
    """
    settings: dict[str, str] = {}
    for assignment in assignments:
        name, equals, value = (part.strip() for part in assignment.partition("="))
        if not equals or not name:
            raise UsageError(f'--set got "{assignment}"; expected name=value, such as drive=5')
        if name in settings:
            raise UsageError(f"--set {name} is given twice; give it once")
        settings[name] = value
    return settings


def apply_overrides(links: list[Link], overrides: Mapping[str, object], known: list[set[str]]) -> None:
    """Write ``--set`` values into the links they are for.

    Parameters
    ----------
    links : list of Link
        Changed in place.
    overrides : mapping
        Keys are ``setting``, ``effect.setting`` or ``number.setting``, the number counted from 1.
    known : list of set of str
        The names of each link's settings.

    Raises
    ------
    UsageError
        If a key fits no link, or more than one.
    """
    for key, value in overrides.items():
        where, dot, setting = key.rpartition(".")
        if not dot:
            hits = [i for i, names in enumerate(known) if setting in names] if len(links) > 1 else [0]
        elif where.isdecimal():
            hits = [int(where) - 1] if 1 <= int(where) <= len(links) else []
        else:
            hits = [i for i, link in enumerate(links) if link.name == where]
        if not hits:
            chain = ", ".join(f"{i} {link.name}" for i, link in enumerate(links, 1))
            raise UsageError(f"nothing to set by {key}; the chain is: {chain}; write it like 1.setting=value")
        if len(hits) > 1:
            choice = " or ".join(f"{i + 1}.{setting}" for i in hits)
            raise UsageError(f"{key} fits several effects of the chain; say which: {choice}")
        links[hits[0]].named[setting] = value if isinstance(value, str) else repr(value)
