"""Read the instructions of a Dockerfile."""

import json
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """An instruction, such as RUN, with the rest of its lines, joined to one."""

    name: str
    text: str
    line: int

    def words(self) -> list[str]:
        """Return the words of the exec form, `["python", "-m", …]`. Raises ValueError where it is another form."""
        words = json.loads(self.text[self.text.index("[") :])
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError(f"line {self.line}: {self.name} is no list of words")
        return words

    def commands(self) -> list[str]:
        """Return the commands that && joins."""
        return [command.strip() for command in self.text.split("&&")]


def read(file: Path) -> list[list[Instruction]]:
    """Return the instructions of each stage, which FROM begins. Those before the first FROM are in the first stage."""
    stages: list[list[Instruction]] = [[]]
    lines = list(enumerate(file.read_text("utf-8").splitlines(), start=1))
    while lines:
        number, line = lines.pop(0)
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        while line.endswith("\\") and lines:
            further = lines.pop(0)[1].strip()
            line = line[:-1].rstrip() + (f" {further}" if not further.startswith("#") else "\\")
        name, _, text = line.strip().partition(" ")
        if name == "FROM" and any(one.name == "FROM" for one in stages[-1]):
            stages.append([])
        stages[-1].append(Instruction(name=name, text=re.sub(r"\s+", " ", text.strip()), line=number))
    return stages
