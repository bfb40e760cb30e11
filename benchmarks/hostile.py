"""Hand a stranger's files and names to every door: is each taken, or refused in one line, and is none lost?

Each input is taken in a process of its own, whose time and peak memory are measured: pictures, tables of labels,
Parquet, texts, weights, bundles, settings, the listing of a landing and its events. Files are real ones, changed by
seeds that stand in the result. `--seed N` tries others.

What counts:

- a traceback: the process ended otherwise than well, or with one line that begins with `error: `;
- a hang: it took longer than 60 seconds;
- lost: an input that is neither among the samples, nor in a ledger, nor named by the refusal;
- raw: a character that a terminal obeys was printed.
"""

import json
import os
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.kit import hostile_inputs as inputs
from benchmarks.kit.machine import Claim, finish, parser, show
from benchmarks.kit.small_project import ROOT
from flows.landing.arrivals import Arrival
from flows.landing.intake import event_of
from flows.landing.listing import Landing
from flows.landing.places import open_store
from tasks.data.admission.registry import read_registry
from tasks.data.manifest.batches import read_batches
from tasks.data.raw.layouts import find_entries
from tasks.gate.decisions import read_decisions
from tasks.images import decode as images
from tasks.machine.names import OBEYED, on_one_line
from tasks.models.bundle import load_bundle
from tasks.models.weights import load_backbone
from tasks.predict import predict
from tasks.scan import run as scan
from tasks.stage.params import load_params
from tasks.stage.shell import errors_in_one_line, set_up
from tasks.text import decode as texts

SECONDS = 60
NUM_OF_A_FORMAT = 20
BROKEN = 70  # the exit status of a process whose work raised an error that no user can mend

Work = Callable[[Path], int]  # plants inputs in a folder, hands them in, and returns how many are accounted for


@dataclass(frozen=True, kw_only=True)
class Try:
    """Inputs of a kind: how many, and the work that hands them in.

    `may_be_refused` is whether one line may refuse them; a bad sample among others must not cost the others.
    """

    kind: str
    num: int
    work: Work
    may_be_refused: bool = True


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of a try."""

    kind: str
    num: int
    is_refused: bool
    lost: int
    has_traceback: bool
    is_hung: bool
    is_raw: bool
    peak_gib: float
    seconds: float
    said: str  # the last line


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--seed", type=int, default=0, help="of the changed files; default: 0")
    options = arguments.parse_args()
    num = 6 if options.quick else NUM_OF_A_FORMAT
    outcomes = []
    for attempt in tries(seed=6 * options.seed, num_of_a_format=num):
        outcomes.append(taken(attempt))
        last = outcomes[-1]
        if last.has_traceback or last.is_hung or last.lost or last.is_raw:
            show(f"{last.kind}: {'hung' if last.is_hung else on_one_line(last.said)}, {last.lost} lost")
    bad = [asdict(outcome) for outcome in outcomes if outcome.has_traceback or outcome.is_hung or outcome.lost]
    kinds = Counter[str]()
    for outcome in outcomes:
        kinds[outcome.kind] += outcome.num
    finish(
        settings={"quick": options.quick, "seed": options.seed, "seconds": SECONDS},
        raw={
            "kinds": dict(kinds),
            "bad": bad,
            "refused": sum(outcome.is_refused for outcome in outcomes),
            "slowest_seconds": max(outcome.seconds for outcome in outcomes),
        },
        claims=[
            Claim(name="hostile.tried", value=kinds.total(), target=200, at_least=True),
            Claim(name="hostile.kinds", value=len(kinds), target=40, at_least=True),
            _count("tracebacks", sum(outcome.has_traceback for outcome in outcomes)),
            _count("hangs", sum(outcome.is_hung for outcome in outcomes)),
            _count("lost", sum(outcome.lost for outcome in outcomes)),
            _count("raw", sum(outcome.is_raw for outcome in outcomes)),
            Claim(
                name="hostile.peak_gib", value=max(outcome.peak_gib for outcome in outcomes), target=1.5, at_least=False
            ),
        ],
    )


def _count(name: str, number: int) -> Claim:
    return Claim(name=f"hostile.{name}", value=number, target=0, at_least=False)


def tries(*, seed: int, num_of_a_format: int) -> Iterator[Try]:
    """Yield every try. The seed changes the files that are changed."""
    samples = partial(Try, may_be_refused=False)
    for name in inputs.FORMATS:
        plant = partial(inputs.put_changed_pictures, name=name, num=num_of_a_format, seed=seed)
        yield samples(kind=f"{name}, scanned", num=num_of_a_format, work=partial(scanned, plant=plant))
        yield samples(kind=f"{name}, predicted", num=num_of_a_format, work=partial(predicted, plant=plant))
    named = len(inputs.NAMES)
    yield samples(kind="file names, scanned", num=named + 1, work=partial(scanned, plant=inputs.put_named_files))
    yield samples(kind="file names, predicted", num=named + 1, work=partial(predicted, plant=inputs.put_named_files))
    yield samples(kind="class names, scanned", num=named, work=partial(scanned, plant=inputs.put_class_folders))
    for kind, file, content in inputs.tables(seed):
        yield Try(kind=kind, num=1, work=partial(listed, file=file, content=content))
    for kind, content in inputs.parquets(seed):
        yield Try(kind=kind, num=1, work=partial(listed_alone, file="raw.parquet", content=content))
    for kind, file, content in inputs.texts(seed):
        yield Try(kind=kind, num=1, work=partial(listed_alone, file=file, content=content, has_texts=True))
    for kind, ending, make in inputs.weights(seed):
        yield Try(kind=kind, num=1, work=partial(loaded, ending=ending, make=make))
    for kind, harm in inputs.harmed_bundles(seed):
        yield Try(kind=kind, num=1, work=partial(opened, harm=harm))
    for kind, file, content in inputs.settings(seed):
        yield Try(kind=kind, num=1, work=partial(read, file=file, content=content))
    yield samples(kind="landing, listed", num=named, work=looked_at)
    for name in inputs.NAMES.values():
        yield samples(kind="event", num=1, work=partial(reported, name=name))


def scanned(folder: Path, *, plant: Callable[[Path], Any]) -> int:
    plant(folder)
    scan(raw=folder / "raw", out=folder / "out", scan=load_params(ROOT / "params.yaml").scan, modality="images")
    return sum(len(pd.read_parquet(folder / "out" / f"{table}.parquet")) for table in ("samples", "defects"))


def predicted(folder: Path, *, plant: Callable[[Path], Any]) -> int:
    plant(folder)
    bundle = inputs.put_bundle(folder)
    counts = predict(bundle, [folder / "raw"], out=folder / "out.csv", device="cpu")
    assert len(pd.read_csv(folder / "out.csv")) == counts.total()
    return counts.total()


def listed(folder: Path, *, file: str, content: bytes) -> int:
    """List a batch with a table of labels: each of its pictures has an entry, whatever is in the table."""
    inputs.put_table(folder, content, name=file)
    entries = find_entries(folder / "raw", endings=images.ENDINGS)
    return int({f"{number}.png" for number in range(4)} <= {entry.path for entry in entries})


def listed_alone(folder: Path, *, file: str, content: bytes, has_texts: bool = False) -> int:
    """List a batch that is one file: it has an entry or a refusal."""
    place = folder / file
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    params = load_params(ROOT / "params.yaml").scan
    batch = folder / file.split("/")[0]
    entries = find_entries(batch, endings=texts.ENDINGS, texts=params) if has_texts else find_entries(batch)
    return int(bool(entries))


def loaded(folder: Path, *, ending: str, make: Callable[[], bytes]) -> int:
    file = folder / f"weights{ending}"
    file.write_bytes(make())
    load_backbone(inputs.ARCHITECTURE, weights=str(file), image_size=32)
    return 1


def opened(folder: Path, *, harm: Callable[[Path], None]) -> int:
    bundle = inputs.put_bundle(folder)
    harm(bundle)
    load_bundle(bundle)
    return 1


def read(folder: Path, *, file: str, content: bytes) -> int:
    (folder / file).write_bytes(content)
    readers: dict[str, Callable[[Path], Any]] = {
        "params.yaml": load_params, "batches.yaml": read_batches, "classes.json": read_registry,
        "decisions.jsonl": read_decisions,
    }  # fmt: skip
    readers[file](folder / file)
    return 1


def looked_at(folder: Path) -> int:
    inputs.put_landing(folder)
    landing = Landing(open_store(str(folder / "landing")), marker="_COMPLETE")
    listing = landing.look()
    for batch in listing.batches:
        landing.mark_of(batch, marks=listing.marks)
        on_one_line(f"{batch.name} {batch.problem} {batch.why_not_whole(1.0)}")
    assert {"stray.exe"} <= {*listing.strays}
    names = {name.replace("/", "\\") for name in inputs.NAMES.values()}
    hidden = {name for name in names if name.startswith(".")}  # as documented: a landing leaves them alone
    return len(names & ({batch.name for batch in listing.batches} | hidden))


def reported(folder: Path, *, name: str) -> int:
    arrival = Arrival(
        batch="a", name=name, landing=str(folder), md5="b", files=1, bytes=2, fingerprint="c",
        event="00000000-0000-0000-0000-000000000000",
    )  # fmt: skip
    event = event_of(arrival, is_first=True).model_dump_json()
    return int(not OBEYED.search(json.loads(event)["payload"]["source"]))


def taken(attempt: Try) -> Outcome:
    """Hand the inputs in, in a process of its own, and return the outcome."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as place, tempfile.TemporaryFile("w+b") as printed:
        start = time.monotonic()
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            _work(attempt, Path(place), printed.fileno(), writing)
        os.close(writing)
        is_hung, status, peak = _wait(child)
        with os.fdopen(reading) as result:
            number = result.read()
        printed.seek(0)
        output = printed.read().decode("utf-8", "replace")
    lines = output.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    is_refused = status == 1 and errors == lines[-1:]
    accounted = int(number) if number else attempt.num if is_refused and attempt.may_be_refused else 0
    return Outcome(
        kind=attempt.kind, num=attempt.num, is_refused=is_refused, is_hung=is_hung,
        lost=max(attempt.num - accounted, 0),
        has_traceback=not is_hung and not (status == 0 or is_refused), is_raw=bool(OBEYED.search(output)),
        peak_gib=peak, seconds=time.monotonic() - start, said=lines[-1] if lines else "",
    )  # fmt: skip


def _wait(child: int) -> tuple[bool, int, float]:
    """Return whether a process had to be killed, its exit status, and its peak memory and that of those it started."""
    end = time.monotonic() + SECONDS
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            return False, os.waitstatus_to_exitcode(status), usage.ru_maxrss / 2**20
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
            _, status, usage = os.wait4(child, 0)
            return True, os.waitstatus_to_exitcode(status), usage.ru_maxrss / 2**20
        time.sleep(0.01)


def _work(attempt: Try, folder: Path, printed: int, writing: int) -> None:
    """Do the work of the child, which ends here."""
    status = BROKEN
    try:
        os.setpgid(0, 0)
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", buffering=1) for number in (1, 2))
        set_up()
        os.chdir(folder)
        with errors_in_one_line():
            number = attempt.work(folder)
        os.write(writing, str(number).encode())
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException as error:
        print(f"Traceback: {type(error).__name__}: {re.sub(chr(10), ' ', str(error))[:300]!a}")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
