"""A model on disk: a folder with `model.safetensors` (the weights) and `model.json` (the rest). No code, no pickles."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import cache, partial
from importlib.metadata import version
from io import BufferedReader
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models.feature_extraction import get_graph_node_names

from tasks.images.transform import Transform
from tasks.machine.extras import MissingExtraError
from tasks.machine.failures import MissingDataError
from tasks.machine.files import sha256, write_json
from tasks.models.architecture import (
    build_network,
    build_network_outline,
    check_architecture,
    classification_layer,
    num_parameters,
    without_random_values,
    without_values,
)
from tasks.models.backbone import Backbone
from tasks.models.classifier import Classifier
from tasks.models.description import (
    Description,
    EncoderFields,
    ImageDescription,
    TextDescription,
    read_description,
    with_digest,
)
from tasks.models.domains import AdaptedHeads
from tasks.models.encoder import Encoder, check_sizes
from tasks.models.normalisation import num_channels
from tasks.models.tensor_checks import fill
from tasks.models.unlike import Unlike
from tasks.models.weight_file import Header, check_content, check_header, check_place, read_header, read_tensors
from tasks.models.words import Words
from tasks.targets.head import Factors
from tasks.targets.kinds import facts_of, targets_of
from tasks.text.tokenizer import MOST_BYTES as MOST_TOKENIZER_BYTES
from tasks.text.transform import TextTransform

WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"
TOKENIZER = "tokenizer.json"  # of a text encoder
ADVICE = "they are of another model"
OF_BACKBONE = "backbone."  # begins the names of its tensors
LEAST_WEIGHTS = 0.1  # share of the architecture's parameters; the smallest has a quarter left without its classes


def save_bundle(folder: Path, model: Classifier, *, lineage: dict[str, Any]) -> None:
    """Write a classifier and its lineage into `folder`. A backbone is saved as a classifier without targets."""
    assert list(model.targets) == sorted(model.targets), "JSON is sorted, and heads are numbered in its order"
    save_file({name: tensor.contiguous() for name, tensor in sorted(model.state_dict().items())}, folder / WEIGHTS)
    backbone = model.backbone
    if isinstance(backbone, Encoder):
        (folder / TOKENIZER).write_bytes(backbone.transform.tokenizer_json)
    description = describe_backbone(backbone) | {
        "architecture": backbone.architecture,
        "classes": facts_of(model.targets),
        "hidden_features": model.hidden_features,
        "temperatures": model.temperatures,
        "lineage": lineage,
        "weights_sha256": sha256(folder / WEIGHTS),
    }
    if model.trunks:
        description["trunks"] = model.trunk_of
    if model.domains:
        assert list(model.domains.targets_of) == sorted(model.domains.targets_of), "as for the targets"
        description["domains"] = {domain: list(targets) for domain, targets in model.domains.targets_of.items()}
        if model.domains.statistics_of:
            description["statistics"] = list(model.domains.statistics_of)
    if model.words:
        factors = {target: asdict(own) for target, own in model.words.factors.items()}
        description["words"] = {"num_terms": len(model.words.hashes), "factors": factors}
    if model.unlike:
        num_references, num_components = model.unlike.references.shape
        description["unlike"] = {
            "num_references": num_references, "num_components": num_components, "level": model.unlike.level
        }  # fmt: skip
    write_json(folder / DESCRIPTION, with_digest(description))


def describe_backbone(backbone: Backbone | Encoder) -> dict[str, Any]:
    """Return the fields of model.json that describe a backbone besides its architecture."""
    if isinstance(backbone, Encoder):
        facts = backbone.transform.to_dict()
        encoder = {name: facts[name] for name in ("long", "max_tokens", "tokenizer_sha256")} | {
            "config": backbone.config, "pooling": backbone.pooling, "is_normalised": backbone.is_normalised
        }  # fmt: skip
        return {"modality": "text", "encoder": encoder}
    own: dict[str, Any] = {"features": backbone.features, "transform": backbone.transform.to_dict()}
    if backbone.power != 1:
        own["power"] = backbone.power
    if backbone.flip:
        own["flip"] = True
    if backbone.resolutions:
        own["resolutions"] = list(backbone.resolutions)
    if backbone.library == "torchvision":
        return own | {"nodes": nodes(backbone)}
    return own | {"library": backbone.library, "config": backbone.config}


def load_bundle(folder: Path) -> tuple[Classifier, dict[str, Any]]:
    """Return the classifier, in evaluation mode, and its lineage.

    A bundle may come from a stranger, so it is checked first. Before a network is built:
    - every value in model.json is possible, and the file is as it was saved;
    - the weights are a whole safetensors file with the SHA-256 in model.json;
    - the number of weights is one that the architecture can have, for each of its trunks;
    - of a text encoder, the sizes in its config are within bounds, and the tokenizer is the one that was saved.
    Before the network is filled, the tensors are exactly those that it has.

    All files are read from the same bundle, even if the folder is replaced during the read.

    Raises:
        MissingExtraError: the model's modality or library needs packages that are not installed.
        ValueError: a check fails, or a weight is not finite.
    """
    check_is_bundle(folder)
    try:
        for name in (DESCRIPTION, WEIGHTS, *([TOKENIZER] if (folder / TOKENIZER).is_symlink() else [])):
            check_place(folder / name)
        with opened(folder) as (about, weights, tokenizer):
            description = read_description(about)
            check_content(weights, sha256=description.weights_sha256)
            header = read_header(weights)
            build_backbone = partial(without_random_values, builder(description, header, tokenizer))
            first = build_backbone() if has_network(header, description) else None
            check_header(header, outline(description, build_backbone, first=first), advice=ADVICE)
            model = grafted(build_backbone, description, first=first)
            fill(model, read_tensors(weights), name="its weights", advice=ADVICE)
            if model.words:
                model.words.vocabulary()  # checks it
            if model.domains:
                model.domains.check()
            return model.eval(), description.lineage
    except MissingExtraError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError, OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{folder} is not a whole bundle ({reason}): make it again, or run `dvc checkout`") from error


def check_is_bundle(folder: Path) -> None:
    """Raise ValueError if this place holds no bundle."""
    advice = "name the folder of a bundle; the model in use is data/models/baseline, which `dvc pull` brings"
    if not folder.is_dir():
        raise ValueError(f"{folder} is {'a file' if folder.exists() else 'not there'}: {advice}")
    if not any(os.path.lexists(folder / name) for name in (DESCRIPTION, WEIGHTS)):
        raise ValueError(f"{folder} holds neither {DESCRIPTION} nor {WEIGHTS}: {advice}")


@contextmanager
def opened(folder: Path) -> Iterator[tuple[BufferedReader, BufferedReader, BufferedReader | None]]:
    """Yield the description, the weights and, where there is one, the tokenizer, opened in one and the same folder.

    The folder stays open while they are read, because another folder may take its path at any moment.
    """
    place = os.open(folder, os.O_RDONLY)
    try:
        inside = partial(os.open, dir_fd=place)
        with ExitStack() as files:
            about, weights = (files.enter_context(open(name, "rb", opener=inside)) for name in (DESCRIPTION, WEIGHTS))
            has_tokenizer = (folder / TOKENIZER).exists()
            yield about, weights, files.enter_context(open(TOKENIZER, "rb", opener=inside)) if has_tokenizer else None
    finally:
        os.close(place)


def builder(
    description: Description, header: Header, tokenizer: BufferedReader | None
) -> Callable[[], Backbone | Encoder]:
    """Return a function that builds the untrained backbone. Raises ValueError where the files belong to no backbone."""
    if isinstance(description, TextDescription):
        return partial(Encoder, **encoder_parts(description.encoder, tokenizer))
    assert isinstance(description, ImageDescription)
    if description.library == "torchvision":
        check_architecture(description.architecture)
        least = int(LEAST_WEIGHTS * num_parameters(description.architecture)) * description.num_trunks
        if header.num_numbers < least:
            raise ValueError(f"its weights have {header.num_numbers} numbers, expected at least {least}; {ADVICE}")
    return partial(
        Backbone,
        description.architecture,
        features=description.features,
        transform=Transform.from_dict(description.transform.model_dump()),
        library=description.library,
        config=description.config,
        power=description.power,
        flip=description.flip,
        resolutions=description.resolutions,
    )


def encoder_parts(fields: EncoderFields, file: BufferedReader | None) -> dict[str, Any]:
    """Return the arguments of `Encoder`. Raises ValueError where the tokenizer is missing or another one."""
    if file is None:
        raise ValueError(f"{TOKENIZER} is missing")
    if (size := os.fstat(file.fileno()).st_size) > MOST_TOKENIZER_BYTES:
        raise ValueError(f"{TOKENIZER} has {size} bytes, expected at most {MOST_TOKENIZER_BYTES}")
    content = file.read()
    if (actual := hashlib.sha256(content).hexdigest()) != fields.tokenizer_sha256:
        raise ValueError(f"{TOKENIZER} has SHA-256 {actual[:12]}, expected {fields.tokenizer_sha256[:12]}")
    check_sizes(fields.config)
    transform = TextTransform(
        tokenizer_json=content, vocab_size=fields.config.get("vocab_size", 0), max_tokens=fields.max_tokens,
        long=fields.long,
    )  # fmt: skip
    return {
        "config": fields.config, "transform": transform, "pooling": fields.pooling,
        "is_normalised": fields.is_normalised,
    }  # fmt: skip


def has_network(header: Header, description: Description) -> bool:
    """Return whether the weights have all tensors of torchvision's network, which may then be built at once.

    `outline` runs other networks without values, and torch imports for a second to do that.
    """
    if not isinstance(description, ImageDescription) or description.library != "torchvision":
        return False
    architecture, size = description.architecture, description.transform.crop_size
    network = without_values(lambda: build_network(architecture, image_size=size))
    network.set_submodule(classification_layer(network), torch.nn.Identity())
    named = network.state_dict(prefix=f"{OF_BACKBONE}network.")
    return all(header.shapes.get(name) == tuple(tensor.shape) for name, tensor in named.items())


def grafted(
    build_backbone: Callable[[], Backbone | Encoder],
    description: Description,
    *,
    num_trunks: int | None = None,
    first: Backbone | Encoder | None = None,
) -> Classifier:
    """Return the untrained classifier, with the described number of trunks or `num_trunks`; `first` is one of them."""
    fields = description.words if isinstance(description, TextDescription) else None
    factors = {target: Factors(**own.model_dump()) for target, own in fields.factors.items()} if fields else {}
    targets = targets_of(description.classes)
    sizes = {target: targets[target].num_outputs for target in factors}
    outputs = {name: target.num_outputs for name, target in targets.items()}
    more = (num_trunks or description.num_trunks) - 1
    trunks = [first or build_backbone(), *(build_backbone() for _ in range(more))]
    unlike = description.unlike
    return Classifier(
        trunks[0],
        targets,
        hidden_features=description.hidden_features,
        temperatures=description.temperatures,
        words=Words(fields.num_terms, sizes, factors) if fields else None,
        trunks=trunks[1:],
        trunk_of=description.trunks,
        domains=adapted_heads(description, outputs, trunks[0]) if description.domains else None,
        unlike=Unlike(unlike.num_references, unlike.num_components, dim=trunks[0].dim, level=unlike.level)
        if unlike
        else None,
    )


def adapted_heads(description: Description, num_outputs: dict[str, int], trunk: Backbone | Encoder) -> AdaptedHeads:
    """Return the untrained heads of domains. Raises ValueError for statistics that the trunk has no layers for."""
    channels = num_channels(trunk)
    if description.statistics and not channels:
        raise ValueError(f"statistics are those of {description.statistics[0]!r}, but no layer normalises by any")
    return AdaptedHeads(
        description.domains, num_outputs, dim=trunk.dim, statistics_of=description.statistics,
        shape=(description.num_trunks, 2, channels),
    )  # fmt: skip


def outline(
    description: Description, build_backbone: Callable[[], Backbone | Encoder], *, first: Backbone | Encoder | None
) -> dict[str, Tensor]:
    """Return the tensors that the weights must match: their names, shapes and types.

    They have no values, because a description may ask for a network and heads of any size. One trunk is built, or
    `first` taken, because it may ask for any number of them, too: the others have the same tensors.
    """
    tensors = without_values(lambda: grafted(build_backbone, description, num_trunks=1, first=first)).state_dict()
    of_trunk = {name.removeprefix(OF_BACKBONE): own for name, own in tensors.items() if name.startswith(OF_BACKBONE)}
    others = range(1, description.num_trunks)
    return tensors | {f"trunks.{number}.{name}": own for number in others for name, own in of_trunk.items()}


def nodes(backbone: Backbone) -> list[str]:
    """Return the parts of torchvision's own network whose outputs make the features.

    Maps are averaged over their positions, then all outputs are concatenated. The names are those that
    `torchvision.models.feature_extraction.create_feature_extractor` takes.
    """
    return list(backbone.sources) or [_node_before_the_classes(backbone.architecture)]


@cache
def _node_before_the_classes(architecture: str) -> str:
    """Return the part of torchvision's network whose output its last layer takes."""
    network = build_network_outline(architecture)
    _, names = get_graph_node_names(network, suppress_diff_warning=True)
    return str(names[names.index(classification_layer(network)) - 1])


def versions(backbone: Backbone | Encoder) -> dict[str, str]:
    """Return the versions of the packages that a model's numbers depend on."""
    import torchvision

    if isinstance(backbone, Encoder):
        return {name: version(name) for name in backbone.packages}
    library = backbone.library
    own = {} if library == "torchvision" else {library: version(library)}
    return own | {"torch": torch.__version__, "torchvision": torchvision.__version__}


def check_baseline(baseline: Path, record: dict[str, str]) -> None:
    """Raise ValueError if the model in use is missing, or if its weights or description are not those of the record."""
    for key, name in (("model_sha256", WEIGHTS), ("description_sha256", DESCRIPTION)):
        file = baseline / name
        if not file.is_file():
            pointer = f"{baseline}.dvc"
            raise MissingDataError(f"the model in use is not at {baseline}: run `dvc pull {pointer}`", pointer=pointer)
        if sha256(file) != (expected := record.get(key)):
            raise ValueError(
                f"{file} is not that of the model in use (expected SHA-256 {str(expected)[:12]}): "
                f"run `dvc checkout {baseline}.dvc`"
            )


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
