"""Other programs' names for the signals of a log: ``loss_d`` and ``D_loss`` are the same one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from genctl.report.curves import Curves

SYNONYMS: dict[str, str] = {
    "loss/discriminator": "loss d|d loss|lossd|dloss|errd|err d|loss disc|disc loss|"
    "discriminator loss|critic loss|loss critic",
    "loss/generator": "loss g|g loss|lossg|gloss|errg|err g|loss gen|gen loss|generator loss",
    "loss/model": "loss|train loss|training loss|loss train|total loss|loss total",
    "loss/model/held_out": "val loss|valid loss|validation loss|loss val|test loss|loss test|"
    "eval loss|held out loss",
    "score/real": "real score|score real|real scores|d x|d real score",
    "score/fake": "fake score|score fake|fake scores|d g z|d g z1|d fake score",
    "accuracy/discriminator": "d accuracy|accuracy d|d acc|acc d|disc accuracy|disc acc|"
    "discriminator accuracy",
    "wasserstein": "wasserstein distance|wasserstein estimate|w distance|w dist",
}
"""What a name means once its punctuation is gone; a name that could mean two things is not here."""

SIGNALS = ("loss/", "grad_norm/", "wasserstein", "began/", "diversity")
KEYS = ("score/real", "score/fake", "accuracy/discriminator")
"""What the diagnosis knows how to read."""

_MEANING = {name: key for key, names in SYNONYMS.items() for name in names.split("|")}
_PARTS = re.compile(r"[^a-z0-9]+")


def named_as_known(curves: Curves) -> tuple[Curves, Mapping[str, str]]:
    """The curves under the names that the diagnosis knows.

    A column is renamed only where its meaning is not there already and no second column claims it;
    ``loss`` is the loss of the model only where no player has one.

    Returns:
        The curves, and for each new name the one that stands in the log.
    """
    claims: dict[str, list[str]] = {}
    for key in curves.columns:
        words = " ".join(word for word in _PARTS.split(key.lower()) if word)
        words = re.sub(r"^(train|training) (?!loss$)", "", words)
        meaning = _MEANING.get(words)
        if meaning is not None and meaning != key and curves.has(key):
            claims.setdefault(meaning, []).append(key)
    players = curves.starting("loss/") or {"loss/discriminator", "loss/generator"} & set(claims)
    if players:
        claims.pop("loss/model", None)
    theirs = {
        meaning: keys[0]
        for meaning, keys in claims.items()
        if len(keys) == 1 and not curves.has(meaning)
    }
    if not theirs:
        return curves, {}
    ours = {key: meaning for meaning, key in theirs.items()}
    columns = {key: column for key, column in curves.columns.items() if key not in theirs}
    return replace(curves, columns={ours.get(key, key): c for key, c in columns.items()}), theirs


def as_logged(text: str, theirs: Mapping[str, str]) -> str:
    """A sentence with the names that stand in the log."""
    if not theirs:
        return text
    known = sorted(theirs, key=len, reverse=True)
    pattern = r"(?<![\w/])(" + "|".join(map(re.escape, known)) + r")(?![\w/])"
    return re.sub(pattern, lambda found: theirs[found.group()], text)


def says_anything(curves: Curves) -> bool:
    """Whether any signal is one that the diagnosis can read."""
    return any(curves.starting(prefix) for prefix in SIGNALS) or any(map(curves.has, KEYS))
