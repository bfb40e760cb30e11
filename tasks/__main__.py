"""Lists the verbs: `python -m tasks`."""

import sys
from pathlib import Path

from tasks.stage.arguments import sentence_of

HERE = Path(__file__).parent


def main() -> None:
    names = sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("__"))
    for name in names:
        sys.stdout.write(f"  {name:11} {sentence_of(HERE / f'{name}.py')}\n")
    sys.stdout.write("\n`python -m tasks.VERB --help` explains a verb.\n")


if __name__ == "__main__":
    main()
