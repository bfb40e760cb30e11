"""What a candidate must not lose against the model in use. Without one (the first run) the floors alone judge."""


def test_candidate_is_not_significantly_worse(metrics, limits, rule):
    for target, measured in metrics.items():
        if "baseline" in measured:
            p_value = measured["flips"]["p_value"]
            rule(f"{target} p-value of the candidate being no worse", p_value, at_least=limits["significance"])
