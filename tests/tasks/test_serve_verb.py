"""The verb `serve` from a shell: where it listens, and how it ends."""

import os
import signal
import socket
import time
from importlib.util import find_spec

import httpx
import pytest

from tasks.prediction.answer_log import answer_files, read_answers
from tasks.serve import main
from tests.kit.verbs import running_verb


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--host", "192.0.2.1"], "192.0.2.1 can be reached from other machines, and there is no token"),
        (["--host", "192.0.2.1", "--token-file", "short"], "the token has 5 characters, expected at least 16"),
        (["--domain", "auto"], "a service answers many callers at once"),
        (["--domain", "cartoon"], "the domain is 'cartoon', but the model is adapted to no domain"),
        (["--log", "short"], "the log short is a file, expected a folder"),
        (["--log", "candidate/log"], "candidate/log lies in the bundle candidate"),
    ],
)
def test_options_that_cannot_be_are_refused_in_one_line(arguments, error, bundle, shell, workspace):
    (workspace / "short").write_text("token\n")
    assert error in shell("serve", "candidate", "--port", "0", *arguments).error


def test_port_that_is_in_use_is_named(bundle, shell):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = shell("serve", "candidate", "--port", port)
    assert done.error == f"127.0.0.1:{port}: Address already in use: choose another --host or --port"


@pytest.mark.skipif(find_spec("ray") is not None, reason="the extra `ray` is installed")
def test_refused_service_on_a_cluster_leaves_no_folder(bundle, shell, workspace):
    error = shell("serve", "candidate", "--engine", "ray", "--log", "log").error
    assert error.startswith("the package ray is not installed: run `make setup EXTRAS=ray`")
    assert not (workspace / "log").exists()


def test_it_needs_one_bundle(capsys):
    with pytest.raises(SystemExit):
        main([])
    assert "expected the folder of one bundle" in capsys.readouterr().err


def test_it_answers_what_was_asked_before_it_is_told_to_end(bundle, batch, workspace):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    content = (batch / "cat" / "0.png").read_bytes()
    arguments = ["candidate", "--port", str(port), "--log", "log", "--log-embeddings"]
    with running_verb("serve", arguments, folder=workspace) as process:
        end = time.monotonic() + 60
        while True:
            try:
                answer = httpx.post(f"http://127.0.0.1:{port}/predict", files={"a": ("a.png", content)}, timeout=60)
                break
            except httpx.ConnectError:
                assert time.monotonic() < end
                time.sleep(0.05)
        os.kill(process.pid, signal.SIGTERM)
        process.join(60)
        assert process.exitcode == 0
    [row] = answer.json()["predictions"]
    assert row["label"] in ("cat", "dog")
    [logged] = read_answers(answer_files([workspace / "log"])[0]).to_pylist()
    assert (logged["label"], logged["probability"]) == (row["label"], row["probability"])
