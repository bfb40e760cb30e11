import pytest

from flows.sharing.proposal import consequences


@pytest.mark.parametrize(
    ("promotes", "command"),
    [(True, "until `python -m flows.promote` is run on it"), (False, "`python -m flows.promote --force --why '…'`")],
)
def test_pull_request_says_how_an_undecided_candidate_comes_into_use(promotes, command):
    [line] = consequences({"verdict": "undecided", "promotes": promotes}, changed=["dvc.lock"])
    assert command in line
