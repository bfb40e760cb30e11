"""Change each module of the code in a copy, and compare a run on warm stores with one on cold stores.

`python -m benchmarks.kit.warm_and_cold FOLDER [--most N]` prints a JSON object for each module: how many changes were
tried, whether one of them changed a result, and whether a warm store missed it. Code that a run never calls is left
unchanged, because it changes no result. Every run is a fork of this process, which has done all imports of a run: a
fork imports again only the module that is changed and those that import it.
"""

import argparse
import ast
import copy
import gc
import json
import os
import resource
import shutil
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np
from grimp import build_graph
from PIL import Image

ROOT = Path(__file__).parents[2]
NUM_IMAGES = 5
MOST_SECONDS = 60  # of processor, for a run, which takes less than 2
LAYERS = ["features.3", "features.4"]  # few of the network's, so that a run takes little time
# the beginning of a changed module: it returns other tensors and arrays of numbers, and all other objects unchanged
TWICE = """
def _twice(value):
    import numpy, torch
    from PIL import Image, ImageOps
    if isinstance(value, Image.Image):
        return ImageOps.mirror(value)
    if isinstance(value, torch.Tensor):
        return value * 2 if value.is_floating_point() else value if value.dtype == torch.bool else value + 1
    if isinstance(value, numpy.ndarray) and value.dtype.kind in "fiu":
        return value * 2 if value.dtype.kind == "f" else value + 1
    return value

"""
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
# the same, but it only notes the modules of which it would change a value
NOTING = """
def _twice(value):
    import numpy, sys, torch
    from PIL import Image
    is_tensor = isinstance(value, torch.Tensor) and value.is_floating_point()
    is_array = isinstance(value, numpy.ndarray) and value.dtype.kind == "f"
    if is_tensor or is_array or isinstance(value, Image.Image):
        vars(sys).setdefault("handed_on", set()).add(__name__)
    return value

"""
SWAPPED: dict[type, Any] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.Lt: ast.GtE,
    ast.Gt: ast.LtE,
}


def main() -> None:
    command = argparse.ArgumentParser(prog="python -m benchmarks.kit.warm_and_cold", description=__doc__)
    command.add_argument("folder", type=Path)
    command.add_argument("--most", type=int, default=4)
    options = command.parse_args()
    folder: Path = options.folder.absolute()
    code, place = folder / "code", folder / "place"
    shutil.copytree(ROOT / "tasks", code / "tasks")
    put_images(place / "raw/batch")
    warm = folder / "warm"
    # benchmarks imports the original code, not the copy, for the setting of waiting threads
    forget([name for name in sys.modules if name.partition(".")[0] == "tasks"])
    sys.path.insert(0, str(code))
    import_module("tasks")
    reference = forked(place, warm, is_first=True)
    assert reference is not None
    sys.dont_write_bytecode = True  # of a module that is changed
    for name in reference["imported"]:
        with suppress(ImportError):  # some packages make modules that cannot be imported by their names
            import_module(name)
    modules = sorted(name for name in reference["imported"] if name.startswith("tasks."))
    import_module("tasks.machine.sources").digest(*modules)  # it keeps the parsed files
    import_module("tasks.stage.params").load_params(ROOT / "params.yaml")  # it keeps the checks of the sections
    again = forked(place, warm)
    assert again is not None
    assert again["results"] == reference["results"], "warm stores give other bytes than cold ones"
    reference["handed_on"] = that_hand_on(modules, code, place, reference=reference)
    graph = build_graph("tasks", cache_dir=None, exclude_type_checking_imports=True)
    for name in modules:
        anew = [name, *graph.find_downstream_modules(name)]
        facts = tried(name, code, place, warm=warm, reference=reference, anew=anew, most=options.most)
        print(json.dumps(facts), flush=True)


def forget(names: Iterable[str]) -> None:
    """Let the next import of these modules read them again."""
    for name in names:
        package, _, last = name.rpartition(".")
        sys.modules.pop(name, None)
        if package in sys.modules:
            vars(sys.modules[package]).pop(last, None)  # else `from package import last` finds it there


def that_hand_on(own: Iterable[str], code: Path, place: Path, *, reference: dict[str, Any]) -> list[str]:
    """Return the modules that hand on a tensor, an array or an image: the first change of any other changes nothing."""
    with ExitStack() as changes:
        for name in own:
            path = file_of(name, code)
            changes.enter_context(restored(path))
            if text := doubled(path.read_text("utf-8"), called=lines_of(path, reference)):
                path.write_text(NOTING + text, "utf-8")
        noted = forked(place, None, anew=own)
    assert noted is not None
    assert noted["results"] == reference["results"]
    modules: list[str] = noted["handed_on"]
    return modules


def tried(
    name: str, code: Path, place: Path, *, warm: Path, reference: dict[str, Any], anew: list[str], most: int
) -> dict[str, Any]:
    """Change a module until a result changes, at most `most` times; a change that cannot run does not count."""
    path = file_of(name, code)
    source, called = path.read_text("utf-8"), lines_of(path, reference)
    facts: dict[str, Any] = {"module": name, "tried": 0, "touches": False, "stale": False}
    changes = mutants(source, called=called)
    if name not in reference["handed_on"] and doubled(source, called=called):
        next(changes)
        facts["tried"] += 1
    with restored(path):
        while facts["tried"] < most and (mutant := next(changes, None)):
            path.write_text(mutant, "utf-8")
            cold = forked(place, None, anew=anew)
            if cold is None:
                continue
            facts["tried"] += 1
            if cold["results"] != reference["results"]:
                kept = warm.with_name("kept")
                shutil.copytree(warm, kept)
                after = forked(place, kept, anew=anew)
                shutil.rmtree(kept)
                facts |= {"touches": True, "stale": after is None or after["results"] != cold["results"]}
                break
    return facts


def file_of(name: str, code: Path) -> Path:
    path = code / f"{name.replace('.', '/')}.py"
    return path if path.is_file() else path.with_suffix("") / "__init__.py"


@contextmanager
def restored(path: Path) -> Iterator[None]:
    """Give the file back its content and its times after the block: it is the file that was read."""
    content, stamp = path.read_bytes(), path.stat()
    try:
        yield
    finally:
        path.write_bytes(content)
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))


def lines_of(path: Path, reference: dict[str, Any]) -> set[int]:
    """Return the lines in which the functions of a file begin that a run calls."""
    return {line for file, line in reference["called"] if file == str(path)}


def mutants(source: str, *, called: set[int]) -> Iterator[str]:
    """Yield the source with one change at a time; functions that begin in other lines than `called` stay as they are.

    The first change is that of `doubled`. Then one value, number or operator changes at a time, from the middle of the
    module outwards.
    """
    if text := doubled(source, called=called):
        yield TWICE.replace("value + 1", "value") + text
    tree = ast.parse(source)
    places = changeable(tree, called)
    middle = len(places) // 2
    for place in sorted(places, key=lambda place: abs(places.index(place) - middle)):
        changed = copy.deepcopy(tree)
        change(list(ast.walk(changed))[place])
        yield TWICE + ast.unparse(changed)


def doubled(source: str, *, called: set[int]) -> str:
    """Return the source in which `_twice` gets every value that the module returns or hands on; "" without any."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    places = changeable(tree, called)
    handed_on = [nodes[place] for place in places if isinstance(nodes[place], ast.Return | ast.keyword | ast.Lambda)]
    for node in handed_on:
        change(node)
    return ast.unparse(tree) if handed_on else ""


def changeable(tree: ast.Module, called: set[int]) -> list[int]:
    """Return the places, in the order of `ast.walk`, of nodes that can be changed in the code that runs."""
    running = {id(node) for node in nodes_that_run(tree, called)}
    return [number for number, node in enumerate(ast.walk(tree)) if id(node) in running and is_changeable(node)]


def nodes_that_run(tree: ast.Module, called: set[int]) -> Iterator[ast.AST]:
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, FUNCTIONS) or first_line(child) in called:
                waiting.append(child)


def first_line(function: Any) -> int:
    """Return the line that Python says the function begins in: that of its first decorator."""
    lines: list[int] = [node.lineno for node in (function, *getattr(function, "decorator_list", ()))]
    return min(lines)


def change(node: Any) -> None:
    value: Any = getattr(node, "value", None)
    if isinstance(node, ast.Lambda):
        node.body = ast.Call(func=ast.Name(id="_twice"), args=[node.body], keywords=[])
    elif isinstance(node, ast.Return | ast.keyword):
        node.value = ast.Call(func=ast.Name(id="_twice"), args=[value], keywords=[])
    elif isinstance(node, ast.Constant):
        node.value = 2 * value or 1
    elif isinstance(node, ast.BinOp):
        node.op = SWAPPED[type(node.op)]()
    else:
        node.ops[0] = SWAPPED[type(node.ops[0])]()


def is_changeable(node: ast.AST) -> bool:
    if isinstance(node, ast.Lambda):
        return True
    if isinstance(node, ast.Return | ast.keyword):
        return isinstance(node.value, ast.Call | ast.BinOp | ast.Name | ast.Subscript)
    if isinstance(node, ast.Constant):
        return type(node.value) in (int, float)
    if isinstance(node, ast.BinOp):
        return type(node.op) in SWAPPED
    return isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPPED


def put_images(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number in range(NUM_IMAGES):
        coarse = np.random.default_rng(number).integers(0, 256, (9, 7, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((70 + number, 90), Image.Resampling.BICUBIC)
        image.save(folder / f"{number}.{'png' if number % 2 else 'jpg'}")


def forked(
    place: Path, stores: Path | None, *, is_first: bool = False, anew: Iterable[str] = ()
) -> dict[str, Any] | None:
    """Run `work` in a fork that imports the modules `anew` again; None where it fails. No `stores`: they are cold."""
    folder = place.with_name("own")
    shutil.rmtree(folder, ignore_errors=True)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        status = 1
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))  # a changed loop may never end
            gc.freeze()  # no fork looks through the objects of the modules that it has for garbage
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 2)
            forget(anew)
            with noted_calls(are_wanted=is_first) as called:
                facts = work(place, stores or folder / "stores", out=folder / "out", is_first=is_first)
            facts["called"] = [(code.co_filename, code.co_firstlineno) for code in called]
            content = json.dumps(facts)
            with os.fdopen(writing, "w") as pipe:
                pipe.write(content)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    return json.loads(content) if status == 0 and content else None


@contextmanager
def noted_calls(*, are_wanted: bool) -> Iterator[set[CodeType]]:
    """Collect the code of each function that is called in the block, in this thread or in one that it starts.

    Nothing is collected where the calls are not wanted: it takes time.
    """
    called: set[CodeType] = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            called.add(frame.f_code)

    if are_wanted:
        threading.setprofile(note)
        sys.setprofile(note)
    yield called
    sys.setprofile(None)
    threading.setprofile(None)


def work(place: Path, stores: Path, *, out: Path, is_first: bool) -> dict[str, Any]:
    """Embed images with their probes, take augmented views of them to the freeze boundary, and answer.

    The results are digests of the bytes.
    """
    from dataclasses import replace
    from hashlib import sha256

    import pandas as pd
    import torch

    import tasks as evaluated_code
    from tasks.data.manifest.tables import write_table
    from tasks.data.samples.contents import read_content
    from tasks.data.samples.samples import Samples
    from tasks.embed import run
    from tasks.embedding.boundary import find_boundary
    from tasks.embedding.embedder import AUTO, Embedder, plan
    from tasks.images.alterations import PERTURBATIONS
    from tasks.images.augment import AugmentedViews
    from tasks.images.copy_hash import HASHES_SHAPE, copy_hashes
    from tasks.images.decode import decode_sample
    from tasks.images.options import Augmentation
    from tasks.models.bundle import load_bundle, save_bundle
    from tasks.models.classifier import Classifier
    from tasks.models.weights import load_backbone
    from tasks.prediction.answers import Answerer
    from tasks.prediction.heldout import Parts, ask
    from tasks.stage.params import load_params
    from tasks.training.finetuning.activations import Activations
    from tasks.training.finetuning.options import ActivationOptions

    torch.set_num_threads(1)  # more would wait for each other longer than such a small network computes
    assert Path(evaluated_code.__file__ or "").is_relative_to(place.parent), "this is not the code of the copy"
    if is_first:
        torch.manual_seed(0)
        backbone = load_backbone("squeezenet1_1", weights="random", image_size=48, decode="scaled", features=LAYERS)
        model = Classifier(backbone, {"label": ["cat", "dog"]}, temperatures={"label": 0.5})
        (place / "backbone").mkdir()
        save_bundle(place / "backbone", model, lineage={"fingerprint": backbone.fingerprint()})
        paths = sorted(path.name for path in (place / "raw/batch").iterdir())
        ids = [sha256((place / "raw/batch" / path).read_bytes()).hexdigest() for path in paths]
        table = pd.DataFrame(
            {"batch": "batch", "path": paths, "sample_id": ids, "split": "train", "width": 70, "height": 90}
        )
        (place / "manifest").mkdir()
        write_table(place / "manifest/batch.parquet", table)
    out.mkdir(parents=True)
    stores.mkdir(exist_ok=True)
    params = load_params(ROOT / "params.yaml")
    run(
        raw=place / "raw/batch", manifest=place / "manifest/batch.parquet", backbone=place / "backbone",
        store=stores / "looks", out=out / "vectors", hashes=out / "hashes", embed=params.embed,
        modality="images",
    )  # fmt: skip
    results = {name: sha256((out / name).read_bytes()).hexdigest() for name in ("vectors", "hashes")}
    model, _ = load_bundle(place / "backbone")
    rows = pd.read_parquet(place / "manifest/batch.parquet")
    samples = Samples(rows, raw=place / "raw", decode=decode_sample)
    boundary = find_boundary(model.backbone, [model.backbone.network.get_submodule(LAYERS[-1])])
    assert boundary is not None
    every = np.arange(NUM_IMAGES)
    augmentation = Augmentation(max_rotation_degrees=30.0, max_shift_fraction=0.2, max_scale_fraction=0.3, flip=True)
    options = replace(AUTO, device="cpu", minibatch_size=2)
    activations = Activations(
        samples, embedder=Embedder(model.backbone, plan(options), boundary=boundary),
        boundary=boundary, backbone=model.backbone.fingerprint(),
        views=AugmentedViews(augmentation=augmentation, seed=0),
        options=ActivationOptions(num_views=1, cache_gigabytes=1.0), train=every, val=every[:1],
        path=stores / "activations",
    )  # fmt: skip
    activations.keep()
    views = [*activations.minibatches(every, 0, size=2), *activations.minibatches(every[:1], None, size=2)]
    results["views"] = sha256(torch.cat(views).numpy().tobytes()).hexdigest()
    images = Parts(
        read=read_content, decode=decode_sample, hash_of=copy_hashes, hashes_shape=HASHES_SHAPE,
        alterations=PERTURBATIONS,
    )  # fmt: skip
    asked = ask(
        {"candidate": Answerer(model, device="cpu")}, rows, raw=place / "raw", store=stores / "looks",
        parts=images, alterations=["flipped"],
    )  # fmt: skip
    answers = [asked.models["candidate"]["label"], asked.altered["flipped"]["label"]]
    results["answers"] = sha256(np.concatenate(answers).tobytes()).hexdigest()
    return {"results": results, "imported": list(sys.modules), "handed_on": sorted(getattr(sys, "handed_on", ()))}


if __name__ == "__main__":
    main()
