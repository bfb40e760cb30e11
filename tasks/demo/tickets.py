"""Write the demo's data for text: a batch of support tickets, made from a grammar, as one table.

The tickets are as hard as real ones: many mention a second matter, some are vague, some were labelled in haste, people
mistype, and some send the same message twice. A few rows are no samples at all.
"""

import csv
import io
import logging
import random
from pathlib import Path

from tasks.demo.phrases import ASIDES, CLOSINGS, GREETINGS, MATTERS, SLOTS, VAGUE, WISHES
from tasks.machine.files import whole_folder
from tasks.stage.shell import run_verb

logger = logging.getLogger("graftline")

BATCHES = {"tickets-spring": 700, "tickets-summer": 300}  # rows with a label
TABLE = "tickets.csv"
UNLABELLED = 20  # rows of each batch
SECOND_MATTER = 0.15  # share of the tickets that mention a matter of another label too
VAGUELY = 0.12  # share of the tickets whose first sentence does not show the label
IN_HASTE = 0.03  # share of the tickets with another label than the right one
AGAIN = 0.03  # share of the tickets that were sent twice, the second time with small changes
MISTYPED = 0.006  # share of the letters
ALSO = ["By the way:", "Also,", "On top of that:", "Something else:", "That aside,"]

Row = tuple[str, str]  # text and label


def run(*, out: Path) -> None:
    """Write a batch as a folder with one table.

    Args:
        out: the folder of the batch, called tickets-spring or tickets-summer
    """
    if out.name not in BATCHES:
        raise ValueError(f"{out} is no batch of tickets: call it {' or '.join(BATCHES)}")
    rows = batch(BATCHES[out.name], random.Random(out.name))
    with whole_folder(out) as folder:
        (folder / TABLE).write_bytes(table(rows))
    logger.info("wrote %s rows to %s", f"{len(rows):,}", out / TABLE)


def batch(num_rows: int, chance: random.Random) -> list[Row]:
    """Return the rows of a batch, shuffled: labelled and unlabelled ones, and some that are no samples."""
    rows: list[Row] = []
    while len(rows) < num_rows:
        label = chance.choice(list(MATTERS))
        text = ticket(label, chance)
        if chance.random() < IN_HASTE:
            label = chance.choice([other for other in MATTERS if other != label])
        rows.append((text, label))
        if chance.random() < AGAIN:
            rows.append((f"FW: {mistyped(text, chance).lower()}", label))
    rows = rows[:num_rows]
    rows += [(ticket(chance.choice(list(MATTERS)), chance), "") for _ in range(UNLABELLED)]
    text, label = rows[1]
    contradiction = (text, chance.choice([other for other in MATTERS if other != label]))
    rows += [("", "fault"), ("\u200b \n", "login"), rows[0], contradiction]
    chance.shuffle(rows)
    return rows


def ticket(label: str, chance: random.Random) -> str:
    """Return the text of a ticket, of one to six sentences."""
    matter = filled(chance.choice(MATTERS[label]), chance)
    body = [filled(chance.choice(VAGUE), chance), matter] if chance.random() < VAGUELY else [matter]
    if chance.random() < SECOND_MATTER:
        other = chance.choice([other for other in MATTERS if other != label])
        body.append(f"{chance.choice(ALSO)} {filled(chance.choice(MATTERS[other]), chance)}")
    for _ in range(chance.randrange(3)):
        body.insert(chance.randrange(len(body) + 1), filled(chance.choice(ASIDES), chance))
    body.append(filled(chance.choice(WISHES), chance))
    lines = [filled(chance.choice(GREETINGS), chance), " ".join(filter(None, body))]
    lines.append(filled(chance.choice(CLOSINGS), chance))
    return mistyped("\n".join(filter(None, lines)), chance)


def filled(sentence: str, chance: random.Random) -> str:
    """Return the sentence with a word in each slot."""
    while "{" in sentence:
        slot = sentence[sentence.index("{") + 1 : sentence.index("}")]
        sentence = sentence.replace(f"{{{slot}}}", chance.choice(SLOTS[slot]), 1)
    return sentence


def mistyped(text: str, chance: random.Random) -> str:
    """Return the text with some letters swapped, doubled or left out."""
    letters = list(text)
    for place in range(len(letters) - 1):
        if letters[place].isalpha() and letters[place + 1].isalpha() and chance.random() < MISTYPED:
            one, next_one = letters[place], letters[place + 1]
            letters[place], letters[place + 1] = chance.choice([(next_one, one), (one * 2, next_one), ("", next_one)])
    return "".join(letters)


def table(rows: list[Row]) -> bytes:
    """Return the CSV of the rows; a text of several lines is quoted."""
    content = io.StringIO(newline="")
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(["text", "label"])
    writer.writerows(rows)
    return content.getvalue().encode()


if __name__ == "__main__":
    run_verb(run)
