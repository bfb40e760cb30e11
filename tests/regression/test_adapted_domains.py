"""The rule for the domains that the candidate is adapted to: on each, its own head is no worse than the general head.

The slice `domain` compares the candidate with the model in use (test_baseline.py). A domain without a held-out label is
not judged, and the verdict lists it.
"""

from tasks.machine.names import on_one_line
from tasks.metrics.significance import Flips, holm


def test_head_of_a_domain_is_not_worse_than_the_general_head(metrics, false_blocks, rule):
    judged = [
        (target, on_one_line(domain), Flips(**measured["flips"]))
        for target, of_target in metrics.items()
        for domain, measured in of_target.get("domains", {}).items()
    ]
    p_values = holm([flips.p_value for *_, flips in judged])
    for (target, domain, flips), p_value in zip(judged, p_values, strict=True):
        rule(
            f"{target} p-value that the head of the domain {domain} is no worse there than the general head",
            p_value,
            at_least=false_blocks["domains"],
            smallest_detectable=flips.smallest_detectable(significance=false_blocks["domains"] / len(judged)),
            parameter="significance",
            advice=f"leave {domain} out of adapt.targets, or try another adapt.method, in params.yaml",
        )
