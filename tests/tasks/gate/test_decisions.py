from tasks.gate.decisions import Decision, number_of, read_decisions, write_down


def decided(path, *pairs):
    for candidate, heldout in pairs:
        write_down(path, Decision(candidate=candidate, heldout=heldout, verdict="rejected"))
    return read_decisions(path)


def test_candidate_that_is_judged_again_keeps_its_number(tmp_path):
    decisions = decided(tmp_path / "d.json", ("a", "x"), ("b", "y"), ("c", "x"))
    assert [number_of(decisions, candidate=candidate, heldout="x") for candidate in "acd"] == [1, 2, 3]


def test_new_verdict_on_a_candidate_replaces_the_old_one(tmp_path):
    path = tmp_path / "d.json"
    decided(path, ("a", "x"), ("b", "x"))
    write_down(path, Decision(candidate="a", heldout="x", verdict="accepted"))
    verdicts = [(decision.candidate, decision.verdict) for decision in read_decisions(path)]
    assert verdicts == [("a", "accepted"), ("b", "rejected")]
