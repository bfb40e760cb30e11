"""The rules against the model in use. A target that it does not have is judged by test_first.py."""

from tasks.gate.non_inferiority import compare_slices
from tasks.metrics.significance import ErrorChange, Flips, mcnemar, smallest_detectable_excess


def test_candidate_is_not_worse_overall_or_on_a_slice(paired, slices, metrics, params, rule):
    for target, on_all in paired.items():
        of_row = flips_of if isinstance(on_all, Flips) else change_of
        on_slices = {
            f"{row.column} {row.value}": of_row(row)
            for row in slices[slices["target"] == target].dropna(subset=["num_shared"]).itertuples()
        }
        whole, parts = compare_slices(
            on_all,
            on_slices,
            significance=params["significance"] / len(paired),
            min_samples=params["min_slice_samples"],
        )
        for name, comparison in {"all samples": whole, **parts}.items():
            rule(
                f"{target} p-value that the candidate is no worse on {name}",
                comparison.p_value,
                at_least=comparison.significance,
                smallest_detectable=comparison.smallest_detectable,
                parameter="significance",
                unit=metrics[target].get("unit"),
            )


def test_few_samples_that_were_right_are_wrong_now(flips, params, rule):
    """Users rely on answers that were right; these errors annoy most (Yan et al. 2021, positive-congruent training)."""
    budget = params["max_negative_flips"]
    if budget is None:
        return
    for target, on_all in flips.items():
        detectable = smallest_detectable_excess(budget, num_samples=on_all.num_samples)
        share = on_all.negative / on_all.num_samples
        rule(
            f"{target} share of negative flips",
            share,
            at_most=budget,
            smallest_detectable=detectable,
            parameter="max_negative_flips",
        )


def flips_of(row) -> Flips:
    negative, positive = int(row.negative_flips), int(row.positive_flips)
    return Flips(
        negative=negative, positive=positive, num_samples=int(row.num_shared), p_value=mcnemar(negative, positive)
    )


def change_of(row) -> ErrorChange:
    return ErrorChange(
        mean=row.mean, deviation=row.deviation, num_different=int(row.num_different), num_samples=int(row.num_shared),
        p_value=row.p_value,
    )  # fmt: skip
