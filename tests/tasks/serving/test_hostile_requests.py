"""Requests that are meant to harm: each is refused in one line, and the service goes on answering."""

import socket
import threading
import time
import zlib
from contextlib import suppress

import pytest

from tasks.serving import connections
from tasks.serving.app import RequestLimits
from tasks.serving.requests import RefusedError, inputs_of
from tests.kit.service import serving

KEY = "0123456789abcdef"
SMALL = RequestLimits(max_bytes=200_000, max_samples=3, seconds=1.0)


@pytest.fixture(scope="module")
def running(bundle):
    with serving(bundle, limits=SMALL, names=("model.example",)) as own:
        yield own


def raw(port: int, *pieces: bytes, pause: float = 0.0) -> bytes:
    """Send bytes as they are, and return all that comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
        except OSError:
            pass
        answer = b""
        try:
            while part := connection.recv(65536):
                answer += part
        except OSError:
            pass
        return answer


def head(path: str = "/predict", *lines: str) -> bytes:
    own = (f"POST {path} HTTP/1.1", "host: localhost", "connection: close", *lines, "", "")
    return "\r\n".join(own).encode()


def test_large_bodies_are_refused_by_their_length_and_as_they_come(running):
    answer = running.client.post("/predict", content=bytes(200_001), headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert answer.json() == {"error": "the body is larger than 200000 bytes: send several requests"}
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    assert b" 413 " in raw(running.port, head("/predict", "transfer-encoding: chunked"), *[chunk] * 5)


def test_slow_body_is_refused(running):
    start = time.monotonic()
    answer = raw(running.port, head("/predict", "content-length: 100"), b"x")
    assert b" 408 " in answer
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("kind", "body", "status", "line"),
    [
        ("text/plain", b"x", 415, "expected a content-type of"),
        ("application/json", b"{", 400, "Invalid JSON"),
        ("application/json", b"[" * 190, 400, "Invalid JSON"),
        ("application/json", b"[" * 100_000, 413, "more than 192 strings, commas and brackets"),
        ("application/json", b'{"images": [' + b'"",' * 50_000, 413, "more than 192 strings"),
        ("application/json", b'{"images": []}', 400, "has no sample"),
        ("application/json", b'{"texts": ["a"]}', 400, "the model reads images"),
        ("application/json", b'{"images": ["", "", "", ""]}', 413, "has 4 samples, expected at most 3"),
        ("application/json", b'{"images": [""], "names": ["a", "b"]}', 400, "2 names and 1 images"),
        ("application/json", b'{"images": ["a"], "path": "/etc/passwd"}', 400, "path: Extra inputs"),
        ("application/json", b'{"images": [{"path": "/etc/passwd"}]}', 400, "images.0: "),
        ("multipart/form-data", b"x", 400, "names a boundary"),
        ("multipart/form-data; boundary=b", b"x", 400, "no part"),
        ("multipart/form-data; boundary=b", b"--b\r\nx\r\n--b--", 400, "no head"),
        ("multipart/form-data; boundary=b", b"--b\r\na: " + b";" * 65 + b"\r\n\r\nx\r\n--b--", 400, "64 semicolons"),
        ("multipart/form-data; boundary=b", b"--b\r\na: b\r\n\r\nx\r\n--b--", 400, "no content-disposition"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\ncontent-disposition: form-data; name="a"\r\n\r\nx\r\n--b--',
            400,
            "has the field 'a'",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\ncontent-disposition: form-data; name="a"; filename="a"\r\n\r\nx',
            400,
            "cut off",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\ncontent-disposition: form-data; name="a"; filename="a"\r\n\r\nx\r\n' * 9 + b"--b--",
            413,
            "more than 3 parts",
        ),
    ],
)
def test_malformed_body_is_refused_in_one_line(running, kind, body, status, line):
    answer = running.client.post("/predict", content=body, headers={"content-type": kind})
    assert answer.status_code == status
    assert line in answer.json()["error"]
    assert "\n" not in answer.json()["error"]
    assert "passwd" not in answer.json()["error"]


@pytest.mark.parametrize(
    "body", [b'"' + b'\\"' * 3_000_000, b"\\" * 6_000_000, b'{"texts": ["' + b",[" * 3_000_000 + b'"]}']
)
def test_tokens_of_a_string_are_counted_as_one_and_in_one_pass(body):
    start = time.monotonic()
    with suppress(RefusedError):
        inputs_of(body, "application/json", is_text=True, max_samples=1)
    assert time.monotonic() - start < 5


def test_name_like_a_path_is_shown_and_leads_nowhere(running, png):
    name = "../../etc/passwd\x1b[31m" + "x" * 400
    answer = running.client.post("/predict", json={"images": ["bm90aGluZw==", "*"], "names": [name, "/etc/passwd"]})
    assert answer.status_code == 200
    rows = answer.json()["predictions"]
    assert {row["reason"] for row in rows} == {"not_an_image"}
    assert rows[-1]["detail"] == "the text is not base64 without line breaks"
    assert len(rows[0]["path"]) == 200
    of_form = running.ask(("/etc/passwd", png(0)))
    assert of_form.json()["predictions"][0]["path"] == "/etc/passwd"
    assert of_form.json()["predictions"][0]["label"]


def test_picture_that_would_fill_the_memory_is_named(running):
    def chunk(kind, content):
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    size = (60_000).to_bytes(4, "big")
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size * 2 + bytes([8, 0, 0, 0, 0]))
    bomb += chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    assert {row["reason"] for row in running.ask(("bomb.png", bomb)).json()["predictions"]} == {"too_many_pixels"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"host": "evil.example"}, 421),
        ({"host": "model.example.evil.example"}, 421),
        ({"host": "model.example:80"}, 200),
        ({"host": "127.0.0.1:8700", "origin": "http://127.0.0.1:8700"}, 200),
        ({"host": "localhost", "origin": "http://localhost:3000"}, 403),
        ({"host": "[::1]:8700"}, 200),
    ],
)
def test_other_web_pages_and_unknown_hosts_are_refused(running, png, headers, status):
    assert running.ask(("a.png", png(0)), headers=headers).status_code == status


def test_without_the_token_only_the_status_is_told(bundle, png):
    with serving(bundle, token=KEY) as running:
        assert running.ask(("a.png", png(0))).status_code == 200
        assert "model" in running.health()
        for given in ("", "Bearer", "Bearer 0123456789abcdeF", "Basic 0123456789abcdef", "Bearer \xff"):
            headers = {"authorization": given.encode("latin-1")}
            assert running.ask(("a.png", png(0)), headers=headers).status_code == 401
            assert running.client.get("/metrics", headers=headers).status_code == 401
            assert running.client.get("/health", headers=headers).json() == {"status": "ok"}


def test_idle_and_slow_connections_keep_nobody_from_asking(running, png, monkeypatch):
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 20)
    monkeypatch.setattr(connections, "IDLE_SECONDS", 2.0)
    idle = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(200)]
    for connection in idle[::2]:
        connection.sendall(b"POST /predict HTTP/1.1\r\nhost: local")
    with socket.create_connection(("127.0.0.1", running.port), timeout=30) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    idle[-1].settimeout(30)
    assert idle[-1].recv(1000) == b""  # closed after its time
    for connection in idle:
        connection.close()


def test_broken_requests_leave_the_service_answering(running, png, monkeypatch):
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.5)
    for garbage in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", b"GET /\r\n\r\n", b"\0" * 100_000):
        raw(running.port, garbage)
    assert b" 400 " in raw(running.port, b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n")
    assert running.client.get("/../../etc/passwd").status_code == 404
    assert running.client.get("/nothing").json() == {"error": "there is no such path: / lists them"}
    assert running.client.get("/predict").status_code == 405
    assert running.ask(("a.png", png(0))).status_code == 200


def test_more_samples_than_may_wait_are_refused_and_the_others_answered(bundle, png):
    with serving(bundle, max_waiting=8) as running:
        with running.service.minibatches.held():
            statuses: list[int] = []
            files = [("a.png", png(0))] * 4
            askers = [
                threading.Thread(target=lambda: statuses.append(running.ask(*files).status_code)) for _ in range(5)
            ]
            for asker in askers:
                asker.start()
            end = time.monotonic() + 30
            while len(statuses) < 3 and time.monotonic() < end:
                time.sleep(0.01)
        for asker in askers:
            asker.join()
    assert sorted(statuses) == [200, 200, 503, 503, 503]


def test_answer_that_takes_too_long_is_given_up(bundle, png):
    with serving(bundle, limits=RequestLimits(seconds=0.3)) as running:
        with running.service.minibatches.held():
            answer = running.ask(("a.png", png(0)))
            assert answer.status_code == 504
        assert running.ask(("a.png", png(0))).status_code == 200
        assert running.health()["waiting_samples"] == 0


def test_all_bodies_together_are_limited(bundle, png):
    limits = RequestLimits(max_total_bytes=100_000, seconds=20)
    with serving(bundle, limits=limits) as running:
        slow = socket.create_connection(("127.0.0.1", running.port))
        slow.sendall(head("/predict", "content-length: 99000") + bytes(98_000))
        end = time.monotonic() + 30
        while (status := running.ask(("a.png", png(0))).status_code) != 503 and time.monotonic() < end:
            time.sleep(0.01)
        assert status == 503
        slow.close()
        while (status := running.ask(("a.png", png(0))).status_code) != 200 and time.monotonic() < end:
            time.sleep(0.01)
        assert status == 200
