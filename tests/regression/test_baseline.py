"""The rules against the model in use. A target that it does not have is judged by test_first.py."""

from math import ceil, floor, log10

from tasks.gate.anchor import against
from tasks.gate.comparison import compare_slices, is_doubtful, with_pooled
from tasks.gate.tables import errors_of, groups_of, slices_of
from tasks.gate.tries import lead_of_try
from tasks.machine.names import on_one_line
from tasks.metrics.significance import smallest_detectable_excess


def test_candidate_is_not_worse_overall_or_on_a_slice(
    paired, slices, metrics, subject, params, level, tries, undecided_before, false_blocks, rule, doubt, remark
):
    """It is rejected if it is significantly worse, and undecided if the samples do not show that it is as good."""
    for target, (rows, on_all) in paired.items():
        margin, unit = margin_of(target, metrics, params), metrics[target].get("unit")
        columns = dict.fromkeys(slices.loc[slices["target"] == target, "column"])
        significance = false_blocks["comparison"] / len(paired)
        whole, parts = compare_slices(
            on_all,
            with_pooled(slices_of(rows, columns), groups=on_all.groups, min_samples=params["min_slice_samples"]),
            significance=significance,
            margin=margin,
            slice_margin=slice_margin_of(target, metrics, params),
            level=level,
        )
        for name, comparison in {"all samples": whole, **parts}.items():
            if comparison.paired.num_groups < params["min_slice_samples"] and not comparison.is_worse:
                continue  # it was tested with the others, and says little by itself
            if comparison.p_value < comparison.significance and comparison.is_shown:
                rule(
                    f"{target} loss on {name} that is not ruled out",
                    comparison.bound,
                    at_most=comparison.margin,
                    parameter=parameter_of(name, unit),
                    unit=unit,
                )
                continue
            rule(
                f"{target} p-value that the candidate is no worse on {name}",
                comparison.p_value,
                at_least=comparison.significance,
                smallest_detectable=comparison.smallest_detectable,
                parameter="significance",
                unit=unit,
            )
        if subject["candidate"] == subject["baseline"]:
            continue
        if margin is not None and not whole.is_shown and not whole.is_worse:
            lead = lead_of_try(earlier=tries) * on_all.standard_error
            is_row_full = undecided_before >= params["max_undecided"]
            row = f"; {undecided_before} undecided ones in a row were put in use before" if is_row_full else ""
            doubt(
                f"{target}: {undecided(whole, level=level, unit=unit)}; {standing(on_all.mean, lead, unit)}{row}",
                waits=is_row_full or on_all.mean + lead > 0,
            )
        for name, comparison in parts.items():
            if comparison.margin is None or comparison.is_worse:
                continue
            if is_doubtful(comparison, significance=significance):
                lost = amount(comparison.paired.mean, unit)
                doubt(f"{target}: it lost {lost} on {name}, p-value {comparison.p_value:.2g}", waits=True)
            bound = comparison.bound
            if bound is None and unit:
                remark("unseen", f"{target} {name} could lose an unknown amount: too few answers differ to tell")
            elif bound is None or bound > comparison.margin:
                most = amount(1.0 if bound is None else bound, unit)
                remark("unseen", f"{target} {name} could lose up to {most}")


def test_small_losses_do_not_add_up(
    paired, candidate, anchors, metrics, subject, params, level, tries, undecided_before, doubt
):
    """The anchor is the best model that was in use. It is kept until a model in use is shown to be better."""
    for target, (rows, on_all) in paired.items():
        anchor, margin = anchors.get(target), margin_of(target, metrics, params)
        if anchor is None or margin is None or anchor.model in (subject["baseline"], subject["candidate"]):
            continue
        own = rows[["sample_id", "label"]].assign(group=groups_of(rows), candidate=errors_of(candidate.loc[rows.index]))
        compared = against(anchor, own, model="candidate", is_of_classes=on_all.is_of_classes)
        if compared.num_groups >= params["min_slice_samples"] and compared.p_value_of_margin(margin) >= level:
            unit = metrics[target].get("unit")
            most = margin / 2 - lead_of_try(earlier=tries) * compared.standard_error
            limit = f", expected {change(most, unit)} or better" if compared.mean > most else ""
            doubt(
                f"{target}: these held-out samples do not show that it lost less than {amount(margin, unit)} against "
                f"the best model that was in use, {on_one_line(anchor.model[:12])}; they have "
                f"{change(compared.mean, unit)}{limit}",
                waits=compared.mean > most or undecided_before >= params["max_undecided"],
            )


def test_few_samples_that_were_right_are_wrong_now(flips, params, rule):
    """Users rely on answers that were right; these errors annoy most (Yan et al. 2021, positive-congruent training)."""
    budget = params["max_negative_flips"]
    if budget is None:
        return
    for target, on_all in flips.items():
        fewer = max(round(on_all.num_samples / on_all.design_effect), 1)
        detectable = smallest_detectable_excess(budget, num_samples=fewer)
        share = on_all.negative / on_all.num_samples
        rule(
            f"{target} share of negative flips",
            share,
            at_most=budget,
            smallest_detectable=detectable,
            parameter="max_negative_flips",
        )


def margin_of(target, metrics, params):
    """Return the loss that is allowed: of accuracy, or in the unit of a target of another kind; None for any."""
    of_errors = params["error_margin"]
    if wrong := [name for name in of_errors if "kind" not in metrics.get(name, {})]:
        others = [name for name, measured in metrics.items() if "kind" in measured]
        raise LookupError(
            f"regression.error_margin names {wrong[0]!r}, expected a target of the kind several, ordinal or number "
            f"({', '.join(others) or 'there is none'}): correct params.yaml; classes have margin"
        )
    return of_errors.get(target) if "kind" in metrics[target] else params["margin"]


def slice_margin_of(target, metrics, params):
    """Return the loss that is allowed on a slice: of errors, in the proportion that those of accuracy have."""
    margin, of_whole, of_slice = margin_of(target, metrics, params), params["margin"], params["slice_margin"]
    if "kind" not in metrics[target] or margin is None or of_slice is None:
        return None if "kind" in metrics[target] else of_slice
    return None if of_whole is None else margin * of_slice / of_whole


def parameter_of(name, unit):
    return "error_margin" if unit else "margin" if name == "all samples" else "slice_margin"


def undecided(whole, *, level, unit):
    """Return in words what this held-out set can show."""
    bound, needed = whole.bound, whole.paired.samples_that_show(whole.margin, level=level)
    most = (
        None
        if bound is None
        else f"{rounded_up(bound):.3g} {unit}"
        if unit
        else f"{rounded_up(100 * bound):.3g} points"
    )
    shows = "no limit of its loss" if most is None else f"that it lost less than {most}"
    words = f"this held-out set shows {shows}, expected {amount(whole.margin, unit)}"
    if needed is None:
        return words
    more = max(needed - whole.paired.num_samples, 0)
    return (
        f"{words}; {more:,} more held-out samples would show it of an equal model with a probability of 80 %"
        if more
        else words
    )


def standing(loss, lead, unit):
    """Return in words how a candidate stands beside the model in use, and what a further try has to reach."""
    if loss > 0:
        return f"it is {amount(loss, unit)} behind on these"
    if loss + lead > 0:
        return (
            f"it is {amount(abs(loss), unit)} ahead on these, and a further try on the same comparison passes by "
            f"itself from {amount(lead, unit)} on"
        )
    return "it is not behind on these"


def change(loss, unit):
    return f"a loss of {amount(loss, unit)}" if loss > 0 else f"a gain of {amount(-loss, unit)}" if loss else "no loss"


def rounded_up(limit):
    """Return a limit with three digits that is not below it, so that it never looks like one that it is above."""
    step = 10.0 ** (floor(log10(limit)) - 2)
    return ceil(limit / step - 1e-9) * step


def amount(loss, unit):
    """Return a loss in words."""
    return f"{loss:.3g} {unit}" if unit else f"{100 * loss:.1f} points"
