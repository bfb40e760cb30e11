"""Find names of one class in several spellings, and cells that name several classes. Merge names of one class.

A person decides whether two names are one class: `validate.merge` merges them, or keeps a name as its own class.
"""

import json
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal

import pandas as pd

SEPARATORS = "|;,/+& "  # between the classes of a cell
BETWEEN_WORDS = re.compile(r"[\s_-]+")
MOST_DIGITS = 300  # of a number; a longer one is compared as text


def merged(samples: pd.DataFrame, merge: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """Return the samples with the labels that `validate.merge` gives them: by target, a label and its class."""
    changed = {
        target: samples[target].map(lambda label, names=names: names.get(label, label), na_action="ignore")
        for target, names in merge.items()
        if target in samples
    }
    return samples.assign(**changed)


def plain(name: str) -> str:
    """Return the form in which spellings of one name are equal.

    Case, the Unicode form, blanks, `_` and `-` between words, and characters without width do not count. Numbers are
    equal by value: 1, 1.0 and 01.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    seen = "".join(mark for mark in folded if unicodedata.category(mark) != "Cf").strip()
    return _number(seen) or BETWEEN_WORDS.sub("", seen) or seen or name


def _number(text: str) -> str:
    """Return a number in one form for each value; "" if the text is not a number."""
    try:
        number = Decimal(text) if len(text) <= MOST_DIGITS else None
    except ArithmeticError:
        return ""
    if number is None or not number.is_finite():
        return ""
    sign, digits, exponent = number.as_tuple()
    significant = "".join(map(str, digits)).lstrip("0")
    if not significant:
        return "0"
    stripped = significant.rstrip("0")
    power = int(exponent) + len(significant) - len(stripped)
    zeros = "0" * power if 0 <= power <= MOST_DIGITS else f"e{power}"
    return "-" * sign + stripped + zeros


def alike(counts: Mapping[str, int], *, first: Collection[str], merge: Mapping[str, str]) -> list[list[str]]:
    """Return pairs [class, the same class in another spelling].

    The class of a pair is one of `first`, such as the registered classes, else the one with the most samples.

    Args:
        counts: the number of samples by class; 0 of a class that is known, but has none.
        merge: the names that a person has decided about.
    """
    spelt: dict[str, list[str]] = {}
    undecided = [name for name in counts if name not in merge]
    for name in sorted(undecided, key=lambda name: (name not in first, -counts[name], name)):
        spelt.setdefault(plain(name), []).append(name)
    return [[names[0], name] for names in spelt.values() for name in names[1:]]


def several_in_one(names: Iterable[str], *, merge: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the names, such as `red|round`, whose parts are classes themselves, with these parts."""
    known = {plain(name): name for name in sorted(names, reverse=True)}
    parts_of = {}
    for name in sorted(known.values()):
        for separator in SEPARATORS:
            parts = [plain(part) for part in name.split(separator)]
            if len(parts) > 1 and name not in merge and all(part in known and known[part] != name for part in parts):
                parts_of[name] = [known[part] for part in parts]
    return parts_of


def line(target: str, merge: Mapping[str, str]) -> str:
    """Return the line of params.yaml that merges labels of a target."""
    pairs = ", ".join(f"{quoted(label)}: {quoted(name)}" for label, name in merge.items())
    return f"validate.merge: {{{quoted(target)}: {{{pairs}}}}}"


def quoted(name: str) -> str:
    """Return a name as YAML and JSON quote it; invisible characters are escaped."""
    return json.dumps(name, ensure_ascii=not name.isprintable())
