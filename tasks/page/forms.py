"""The forms of the candidate on the page: the answers of a file for other programs, its size and its time."""

from typing import Any

from tasks.page.wording import figure, unit_of
from tasks.targets.target import Target

TITLES = {"onnx": "ONNX", "int8": "ONNX, int8"}


def describe_forms(measured: dict[str, Any], subject: dict[str, Any], *, target: Target) -> list[dict[str, str]]:
    """Return a row of texts for the candidate and for each form that was asked; none where none was."""
    forms = measured.get("forms", {})
    if not forms:
        return []
    key = "error" if "kind" in measured else "accuracy"
    unit = unit_of(target)

    def shown(value: float) -> str:
        return figure(value, digits=3) + unit if key == "error" else f"{round(value, 4) + 0.0:.4f}".replace("-", "−")

    def change(measures: dict[str, Any]) -> str:
        ends = measures["interval"]
        text = shown(measures["change"])
        sign = "" if text.startswith("−") or not measures["change"] else "+"
        return sign + text + (f" ({shown(ends[0])} to {shown(ends[1])})" if ends else "")

    def costs(num_bytes: int, milliseconds: float) -> dict[str, str]:
        return {"megabytes": f"{num_bytes / 1e6:.1f}", "milliseconds": f"{milliseconds:.2g}"}

    first = next(iter(forms.values()))
    before = first[key] - first["change"]
    bundle = {"title": "Bundle", "value": shown(before), "change": "–", "changed": "–"}
    return [bundle | costs(subject["candidate_bytes"], subject["candidate_milliseconds"])] + [
        {
            "title": TITLES[name], "value": shown(measures[key]), "change": change(measures),
            "changed": f"{100 * measures['changed']:.2f} %",
        }
        | costs(subject["forms"][name]["bytes"], subject["forms"][name]["milliseconds"])
        for name, measures in sorted(forms.items(), key=lambda form: list(TITLES).index(form[0]))
    ]  # fmt: skip
