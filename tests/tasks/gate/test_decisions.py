from tasks.gate.decisions import Decision, number_of, read_decisions, write_down


def decided(path, *pairs):
    for candidate, heldout in pairs:
        write_down(path, Decision(candidate=candidate, heldout=heldout, verdict="rejected"))
    return read_decisions(path)


def test_candidate_that_is_judged_again_keeps_its_number(tmp_path):
    decisions = decided(tmp_path / "d.json", ("a", "x"), ("b", "y"), ("c", "x"))
    assert [number_of(decisions, candidate=each, heldout="x") for each in "acd"] == [1, 2, 3]


def test_last_verdict_on_a_candidate_is_kept_in_its_place(tmp_path):
    path = tmp_path / "d.json"
    decided(path, ("a", "x"), ("b", "x"))
    write_down(path, Decision(candidate="a", heldout="x", verdict="accepted"))
    assert [(each.candidate, each.verdict) for each in read_decisions(path)] == [("a", "accepted"), ("b", "rejected")]
