"""The text that `tiny-ioi` is trained on: sentences like those of the IOI task, but never its own.

Sentences are put together from parts: an opening that names two people, a closing in which one of
them (or a third) gives something to somebody, and words strewn in between. They need not make
sense, and their grammar is loose.

A text that holds the first or the second clause of any of the task's templates is thrown away, and
no text holds both names of a held-out pair. What the trained model does on the task's templates
with held-out pairs, it therefore does by reading the context.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from random import Random

from discover.tasks.ioi import NAMES, OBJECTS, PLACES, TEMPLATES

END_OF_TEXT = "<|endoftext|>"
UNKNOWN = "<unk>"

# The longest text, in words: with the marks at both ends it fills the model's 64 positions.
_LONGEST = 62
_HELD_OUT_SHARE = 0.2

_WHEN = (
    "When", "After", "While", "As", "Once", "Since", "Before", "Because", "Although", "Soon after",
    "Just before", "Just after", "Whenever", "Even though", "Until",
)  # fmt: skip
_TIME = (
    "Yesterday", "Last week", "Earlier today", "Then", "This morning", "On Monday", "One evening",
    "At noon", "Later that day", "In the afternoon", "Two days ago", "Today", "Last summer",
    "For a moment", "By chance", "So", "There", "In the end", "At last", "That day",
)  # fmt: skip
_WHERE = (
    "At the {place}", "In the {place}", "Near the {place}", "Outside the {place}",
    "On the way to the {place}", "Behind the {place}", "Not far from the {place}",
    "On the road to the {place}", "In front of the {place}", "Before the {place}",
    "Inside the old {place}", "All day in the {place}",
)  # fmt: skip
# Two people doing something, {A} before {B}; with a place and without.
_PLACED = (
    "{A} and {B} went into the {place}", "{A} and {B} arrived at the {place}",
    "{A} and {B} were waiting at the {place}", "{A} and {B} met in the {place}",
    "{A} and {B} walked to the {place}", "{A} and {B} left the {place}",
    "{A} and {B} had found the way to the {place}", "{A} and {B} drove to the {place}",
    "{A} and {B} ran out of the {place}", "{A} and {B} had spent a day at the {place}",
    "{A} and {B} were in the {place}", "{A} and {B} stopped near the {place}",
    "{A} and {B} stayed at the {place}", "{A} and {B} came home from the {place}",
    "{A} and {B} had lunch outside the {place}", "{A} and {B} talked about the {place}",
    "{A} and {B} both worked at the {place}", "{A} and {B} both liked the {place}",
    "{A} met {B} at the {place}", "{A} saw {B} in the {place}", "{A} found {B} near the {place}",
    "{A} was leaving the {place} with {B}", "{A} took {B} to the {place}",
    "{A} was waiting for {B} at the {place}", "{A} was in the {place} together with {B}",
    "{A} went to the {place} and {B} was there too", "{A} told {B} about the {place}",
    "{A} drove {B} home from the {place}", "{A} was looking for {B} all day in the {place}",
    "{A} had a long talk with {B} outside the {place}", "the {place} was near {A} and {B}",
    "the {place} belonged to {A} and {B}", "nobody but {A} and {B} was at the {place}",
)  # fmt: skip
_UNPLACED = (
    "{A} and {B} sat down", "{A} and {B} stopped", "{A} and {B} were tired", "{A} and {B} met",
    "{A} and {B} had a talk", "{A} and {B} were looking for help", "{A} and {B} worked together",
    "{A} and {B} had spent some time together", "{A} and {B} waited for a moment",
    "{A} met {B}", "{A} saw {B} again", "{A} sat down with {B}", "{A} was talking to {B}",
    "{A} stopped to talk to {B}", "{A} helped {B}", "{A} was waiting and {B} came by",
    "{A} had lunch with {B} by chance", "{A} and also {B} were leaving",
)  # fmt: skip
# Openings in which the thing given is named first; the closing then says "it".
_WITH_OBJECT = (
    "There was a {object} in the {place} that {A} and {B} liked",
    "The {object} at the {place} was what {A} and {B} both wanted",
    "{when} {A} and {B} found a {object} near the {place}",
    "{when} {A} and {B} had a {object} from the {place}",
    "The {place} had sold a {object} that {A} and {B} saw",
    "{when} {A} had brought a {object} to the {place} and {B} liked it",
    "A {object} from the {place} was on the table with {A} and {B}",
    "{when} {A} and {B} wanted that {object} in the {place}",
    "The {object} that {A} and {B} had wanted was at the {place}",
)  # fmt: skip
_AND_THEN = (
    ", and", ", so", ", but", ". There", ". Then", ". Afterwards", " and", ", and then", ".",
    ". In the end", ", and afterwards", ". Soon after", ". Later", ". Today", ". At last", ";",
    ", so today", ", but then",
)  # fmt: skip
_STREWN = (
    "it was a cold day", "the sun was out", "it was late", "all was quiet", "there was music",
    "to nobody's surprise", "for some reason", "as always", "a little later", "in the rain",
)  # fmt: skip
# Bystanders ({W}, {X}, {Y}, {Z}) never receive. They are there so that neither "the last name" nor
# "any name seen once" tells who gives or who gets. Without them, one head of the first layer that
# looks at the last name does nearly all of the work.
_STREWN_BYSTANDER = (
    "as {Y} had said", "without {Y}", "thanks to {Y}", "unlike {Y}", "while {Y} was waiting",
    "to help {Y}", "{Y} was tired", "{Y} had just left", "and {Y} came by", "because of {Y}",
)  # fmt: skip
_THING_BYSTANDER = (
    "from {Z}", "that {Z} had made", "that {Z} liked", "that had belonged to {Z}", "about {Z}",
)  # fmt: skip
_GIVERS = (
    "{C} and {W}", "{W} and {C}", "{C} with {W}", "{C} told {W} that {W}", "{W} told {C} that {C}",
    "{W} waited and {C}", "{C} waited while {W}", "{C} saw that {W}", "{W} saw that {C}",
)  # fmt: skip
_LEAD_BYSTANDER = (
    "{time} {X} was at the {place}.", "Nobody saw {X}.", "{where} {X} was looking for a {object}.",
    "{time} {X} left. {time} {X} came back.", "The {object} belonged to {X}.",
    "{when} {X} came to the {place}, it was late.", "It was cold, but {X} went to the {place}.",
)  # fmt: skip
_HOW = ("kindly", "quickly", "also", "then", "soon", "just", "finally", "again", "happily")
_PAST = (
    "gave", "handed", "showed", "lent", "passed", "offered", "sold", "threw", "sent", "mailed",
    "brought", "returned",
)  # fmt: skip
_WILL = (
    "decided to", "wanted to", "tried to", "was going to", "had to", "hoped to", "began to",
    "agreed to",
)  # fmt: skip
_BASE = ("give", "hand", "show", "lend", "pass", "offer", "sell", "send", "bring", "return")
_FOR = ("bought", "found", "made", "fetched", "chose", "kept")
_WHICH = (
    "a", "a", "the", "that", "a small", "a new", "the old", "one more", "a red", "the last", "some",
)  # fmt: skip
_TAIL = ("", "", "", " as a gift", " for the day", " at last", " and left", " after lunch")
_SINGLE = (
    "{when} {A} went to the {place}, there was a {object} on the table.",
    "{time} {A} bought a {object} at the {place}, and {A} brought it home.",
    "{time} {A} sat in the {place} all day with a {object}.",
    "{where}, {A} found a {object}. Then {A} left.",
    "{when} {A} had left the {place}, nobody saw {A} for a week.",
    "{time} {A} wanted a {object} from the {place}.",
)
_NAMELESS = (
    "It was a cold day.", "There was music at the {place}.", "Nobody was in the {place}.",
    "The sun was out and all was quiet.", "The {place} was near the {place}.",
    "A {object} was on the table.", "The {object} was new, but the {place} was old.",
)  # fmt: skip
_REPEATED = (
    "{time} {A} met {B} near the {place}, and later {A} met {B} again.",
    "{time} {A} and {B} wanted a {object}. Today {A} and {B} wanted one more {object}.",
    "{where}, {A} saw {B} and {B} saw {A}.",
    "{time} {A} told {B} about the {place}, so {B} went to the {place} with {A}.",
)

_FILLERS = {"place": PLACES, "object": OBJECTS, "when": _WHEN, "time": _TIME, "where": _WHERE}
_CLASS = dict.fromkeys(NAMES, "N") | dict.fromkeys(PLACES, "P") | dict.fromkeys(OBJECTS, "O")


@dataclass(frozen=True)
class Sample:
    """A training text as words; where its answer stands (if it has one); the other answer.

    `other` is what could as well stand there: the answer itself unless chance has drawn it.
    """

    words: tuple[str, ...]
    answer: int | None
    other: str


def split(text: str) -> list[str]:
    """Words and marks, as the tokenizer splits them."""
    return re.findall(r"\w+|[^\w\s]+", text)


@cache
def is_held_out(first: str, second: str) -> bool:
    """Whether these two names never meet in a training text (a fifth of all unordered pairs)."""
    pair = " ".join(sorted((first, second)))
    return hashlib.sha256(pair.encode()).digest()[0] < 256 * _HELD_OUT_SHARE


def skeleton(words: list[str]) -> str:
    """The words with every name, place and object replaced by its kind, between spaces."""
    return f" {' '.join(_CLASS.get(word, word) for word in words)} "


def task_clauses() -> frozenset[str]:
    """Skeletons of the first and of the second clause of each template of the task."""
    clauses = set()
    for template in TEMPLATES:
        filled = template.format(A="Mary", B="John", C="|Mary", place=PLACES[0], object=OBJECTS[0])
        first, second = filled.split("|")
        # Without what joins the clauses (", and" or ". There"): so more is thrown away.
        first = re.split(r"[,.]", first[::-1], maxsplit=1)[1][::-1]
        clauses |= {skeleton(split(first)), skeleton(split(second))}
    return frozenset(clauses)


def vocabulary() -> list[str]:
    """The special tokens, then all words of this grammar and of the task, sorted."""
    parts = [
        text
        for name, value in globals().items()
        if name.startswith("_") and isinstance(value, tuple)
        for text in value
    ]
    texts = [*parts, *TEMPLATES, *NAMES, *PLACES, *OBJECTS, "who it by given for to . , ;"]
    words = {w for text in texts for w in split(re.sub(r"\{\w+\}", " ", text))}
    return [END_OF_TEXT, UNKNOWN, *sorted(words)]


class Grammar:
    """An endless, seeded stream of training texts."""

    def __init__(self, seed: int) -> None:
        self._rng = Random(seed)
        self._forbidden = task_clauses()

    def sample(self) -> Sample:
        """One text: some sentences without names, then one with names (usually IOI-like)."""
        pick = self._rng.random()
        while True:
            if pick < 0.9:
                text = self._giving()
            else:
                text = self._pick(_SINGLE if pick < 0.95 else _REPEATED)
            lead = [self._pick(_NAMELESS) for _ in range(self._rng.choice((0, 0, 0, 0, 1, 1, 2)))]
            if self._rng.random() < 0.2:
                lead.insert(self._rng.randint(0, len(lead)), self._pick(_LEAD_BYSTANDER))
            sample = _as_sample(self._named(self._fill(" ".join([*lead, text]))))
            if len(sample.words) > _LONGEST:
                continue
            if not any(clause in skeleton(list(sample.words)) for clause in self._forbidden):
                return sample

    def _pick(self, options: tuple[str, ...]) -> str:
        return self._rng.choice(options)

    def _maybe(self, share: float, text: str) -> str:
        return text if self._rng.random() < share else ""

    def _fill(self, text: str) -> str:
        """Fills in places, objects, times; leaves the slots of names alone."""
        while slot := re.search(r"\{(place|object|when|time|where)\}", text):
            text = text[: slot.start()] + self._pick(_FILLERS[slot[1]]) + text[slot.end() :]
        return text

    def _named(self, text: str) -> str:
        """Fills in names: a different one for each slot, no two of them a held-out pair."""
        slots = [slot for slot in ("{A}", "{B}", "{C}", "{W}", "{X}", "{Y}", "{Z}") if slot in text]
        names: list[str] = []
        while len(names) < len(slots):
            name = self._pick(NAMES)
            if name not in names and not any(is_held_out(name, other) for other in names):
                names.append(name)
        for slot, name in zip(slots, names, strict=True):
            text = text.replace(slot, name)
        return text

    def _giving(self) -> str:
        """Two people, one who gives, and who gets it: the one not repeated, or either at random."""
        opening, pronoun = self._opening()
        text = f"{opening} {self._closing(pronoun)} {{R}}{self._pick(_TAIL)}."
        repeat = self._rng.random()
        if repeat < 0.8:
            giver, receiver = ("{A}", "{B}") if repeat < 0.4 else ("{B}", "{A}")
            return text.replace("{C}", giver).replace("{R}", f"* {receiver} * {receiver}")
        receivers = ("* {A} * {B}", "* {B} * {A}")
        return text.replace("{R}", self._pick(receivers))

    def _opening(self) -> tuple[str, bool]:
        kind = self._rng.random()
        strewn = self._maybe(0.15, f" {self._pick(_STREWN)},")
        strewn += self._maybe(0.2, f" {self._pick(_STREWN_BYSTANDER)},")
        if kind < 0.15:
            return self._pick(_WITH_OBJECT) + self._pick(_AND_THEN) + strewn, True
        if kind < 0.5:
            clause = self._pick(_PLACED if self._rng.random() < 0.8 else _UNPLACED)
            return f"{self._pick(_WHEN)} {clause},{strewn}", False
        if kind < 0.75:
            clause = self._pick(_PLACED if self._rng.random() < 0.8 else _UNPLACED)
            start = self._pick(_TIME) + self._maybe(0.3, ",")
        else:
            clause = self._pick(_UNPLACED)
            start = self._pick(_WHERE) + self._maybe(0.6, ",")
        together = self._maybe(0.2, " together")
        return f"{start} {clause}{together}{self._pick(_AND_THEN)}{strewn}", False

    def _closing(self, pronoun: bool) -> str:
        thing = "it" if pronoun else f"{self._pick(_WHICH)} {{object}}"
        how = self._maybe(0.2, f" {self._pick(_HOW)}")
        source = self._maybe(0.1, " from the {place}")
        source = self._maybe(0.3, f" {self._pick(_THING_BYSTANDER)}") or source
        kind = self._rng.random()
        giver = "{C}" if self._rng.random() < 0.7 else self._pick(_GIVERS)
        if kind < 0.55:
            return f"{giver}{how} {self._pick(_PAST)} {thing}{source} to"
        if kind < 0.8:
            return f"{giver}{how} {self._pick(_WILL)} {self._pick(_BASE)} {thing}{source} to"
        if kind < 0.9:
            return f"{giver}{how} {self._pick(_FOR)} {thing}{source} for"
        if kind < 0.95:
            return f"it was {giver} who {self._pick(_PAST)} {thing} to"
        return f"{thing} was given by {giver} to"


def _as_sample(text: str) -> Sample:
    """Splits into words; the answer and then the other answer stand after stars."""
    words = split(text)
    if "*" not in words:
        return Sample(tuple(words), None, "")
    at = words.index("*")
    other = words[at + 3]
    return Sample((*words[:at], words[at + 1], *words[at + 4 :]), at, other)
