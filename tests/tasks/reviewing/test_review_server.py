"""The review page answers its own browser alone, and appends decisions with who and when."""

import re

import httpx
import pytest

from tasks.data.admission.corrections import RELABEL, Correction, append, read_corrections
from tasks.review import listening
from tests.kit.served import review_of, served, tile


@pytest.fixture
def review(tmp_path):
    return review_of(tmp_path, [tile(0), tile(1)])


@pytest.fixture
def client(review):
    """A client that opened the printed address, and has the token of the page."""
    with served(review) as address, httpx.Client(base_url=address, follow_redirects=True) as client:
        page = client.get("/", params={"secret": review.secret})
        assert page.status_code == 200
        assert "secret" not in str(page.url)
        client.headers["x-review-token"] = re.search(r'name="token" content="([^"]+)"', page.text)[1]
        yield client


def decide(client, **changes):
    return client.post("/decisions", json={"id": tile(0).sample_id, "action": "relabel", "target": "label",
                                           "label": "dog"} | changes)  # fmt: skip


def test_decision_is_appended_with_who_and_when_and_undone(client, review):
    held = decide(client).json()["decisions"]
    [row] = read_corrections(review.corrections)
    assert (row.label, row.action, row.who) == ("dog", "relabel", "Ann")
    assert held == [{"action": "relabel", "target": "label", "label": "dog", "who": "Ann", "when": row.when}]
    assert client.get("/tiles").json()["decisions"] == {tile(0).sample_id: held}
    assert decide(client, action="undo").json()["decisions"] == []
    assert [one.action for one in read_corrections(review.corrections)] == ["relabel", "undo"]


def test_decision_of_another_person_is_replaced_by_whoever_sees_it(client, review):
    append(review.corrections, [Correction(sample_id=tile(0).sample_id, target="label", label="cow", action=RELABEL,
                                           who="Bob")], replaces=False)  # fmt: skip
    assert [one["label"] for one in decide(client).json()["decisions"]] == ["dog"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": "f" * 64}, "there is no such sample"),
        ({"action": "delete"}, "action is 'delete', expected accept"),
        ({"target": "breed"}, "target is 'breed', expected one of label"),
        ({"label": " "}, "expected a target and a label"),
        ({"label": "x" * 1001}, "expected texts of at most 1000 characters"),
        ({"label": ["dog"]}, "expected texts"),
    ],
)
def test_decision_that_the_page_does_not_make_is_refused_and_nothing_is_written(client, review, changes, message):
    answer = decide(client, **changes)
    assert answer.status_code == 400
    assert message in answer.text
    assert not review.corrections.exists()


def test_damaged_file_of_corrections_is_named_and_stays_as_it_is(client, review):
    review.corrections.write_text("something else\n", "utf-8")
    assert "has the columns something else, expected sample_id" in decide(client).text
    answer = client.get("/tiles")
    assert (answer.status_code, answer.text) == (400, decide(client).text)
    assert review.corrections.read_text("utf-8") == "something else\n"


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "evil.example:80", "origin": "http://evil.example"},
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"x-review-token": "guessed"},
        {"cookie": "graftline_review_1=guessed"},
    ],
)
def test_other_origins_hosts_and_whoever_lacks_the_secret_or_the_token_are_refused(client, review, headers):
    if "cookie" in headers:
        client.cookies.clear()
    client.headers.update(headers)
    assert decide(client).status_code in (400, 403)
    assert not review.corrections.exists()
    if "x-review-token" not in headers:
        for path in ("/", "/tiles", f"/preview/{tile(0).sample_id}"):
            assert client.get(path).status_code in (400, 403)


def test_what_a_browser_is_started_with_opens_the_page_once(review):
    review.tickets.add("ticket")
    with served(review) as address:
        first, second = (httpx.get(address, params={"secret": "ticket"}) for _ in range(2))
    assert (first.status_code, second.status_code) == (303, 403)
    assert review.secret in first.cookies.values()
    assert not second.cookies


def test_text_that_begins_like_a_picture_is_shown_as_a_text(tmp_path):
    text = "data:image/webp;base64,no"
    review = review_of(tmp_path, [tile(0)], modality="text", preview=lambda *_: text)
    with served(review) as address:
        answer = httpx.get(f"{address}/preview/{tile(0).sample_id}", params={"secret": review.secret})
    assert (answer.text, answer.headers["content-type"]) == (text, "text/plain; charset=utf-8")


def test_preview_is_of_the_samples_of_the_page_alone(client):
    answer = client.get(f"/preview/{tile(0).sample_id}")
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert client.get(f"/preview/{tile(7).sample_id}").status_code == 404
    assert client.get("/preview/..%2f..%2fparams.yaml").status_code == 404


def test_port_that_is_none_or_taken_is_refused_in_one_line():
    with listening(None) as socket:
        with pytest.raises(ValueError, match="cannot be used"):
            listening(str(socket.getsockname()[1]))
        assert socket.getsockname()[0] == "127.0.0.1"
    with pytest.raises(ValueError, match="--port is 'x', expected a number from 1 to 65535"):
        listening("x")
