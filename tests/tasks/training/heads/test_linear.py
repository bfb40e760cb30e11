import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression, Ridge

from tasks.targets.classes import Classes
from tasks.targets.number import HUBER_WIDTH, Number
from tasks.targets.ordinal import Ordinal
from tasks.targets.several import Several
from tasks.training.heads.linear import fit_linear, path_of
from tasks.training.heads.logistic import fit_head
from tasks.training.heads.options import HeadOptions
from tasks.training.heads.prior import prior_of
from tasks.training.heads.rows import StandardRows

N, DIM = 500, 12
SEVERAL, ORDINAL, NUMBER = Several(("a", "b", "c")), Ordinal(("low", "mid", "high")), Number(measure="g")


def options(*strengths, class_weights="none"):
    return HeadOptions(
        head="logistic", class_weights=class_weights, hidden_features=1, l2_strengths=list(strengths),
        max_iterations=500, words="never", sharing="never",
    )  # fmt: skip


def problem(*, n=N, dim=DIM, seed=0):
    """Vectors of unequal scale and off zero, and three scores (n, 3) that depend on them, with noise."""
    weight = np.random.default_rng(1).normal(size=(DIM, 3))
    generator = np.random.default_rng(seed)
    plain = generator.normal(size=(n, dim))
    return plain * np.geomspace(0.1, 5, dim) + 7.0, plain[:, :DIM] @ weight + generator.logistic(size=(n, 3))


VECTORS, SCORES = problem()
LABELS = (SCORES > (0.0, 1.0, 3.0)).astype(float)
STEPS = np.digitize(SCORES[:, 0], (-2.0, 1.0))
STANDARD = (VECTORS - VECTORS.mean(axis=0)) / VECTORS.std(axis=0)


def layer(target, truths, l2, *, vectors=VECTORS, class_weights="none", rows=None):
    rows = rows or StandardRows(vectors, num_outputs=target.num_outputs)
    [(_, (weight, bias))] = path_of(target, rows, truths, options(l2, class_weights=class_weights), [l2])
    return weight, bias


def logits(layer, vectors=VECTORS):
    return vectors @ layer[0].T + layer[1]


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
@pytest.mark.parametrize("l2", [0.003, 0.3])
def test_each_of_several_labels_is_learned_as_scikit_learn_learns_it_alone(l2, class_weights):
    found = logits(layer(SEVERAL, LABELS, l2, class_weights=class_weights))
    for column in range(3):
        peer = LogisticRegression(
            C=1 / (l2 * N), tol=1e-10, max_iter=5000, class_weight=None if class_weights == "none" else "balanced"
        )
        expected = peer.fit(STANDARD, LABELS[:, column]).predict_proba(STANDARD)[:, 1]
        assert 1 / (1 + np.exp(-found[:, column])) == pytest.approx(expected, abs=3e-3)


def test_label_that_never_varies_keeps_its_share_and_changes_no_other():
    alone = logits(layer(SEVERAL, LABELS, 0.01))
    more = Several((*SEVERAL.names, "never", "always"))
    found = logits(layer(more, np.hstack([LABELS, np.zeros((N, 1)), np.ones((N, 1))]), 0.01))
    assert found[:, :3] == pytest.approx(alone)
    assert found[:, 3:] == pytest.approx(np.tile([-np.log(2 * N + 1), np.log(2 * N + 1)], (N, 1)))


@pytest.mark.parametrize("dim", [DIM, 3 * DIM])
@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_ordinal_head_has_the_least_objective(dim, class_weights):
    """With more features than rows, too."""
    vectors, scores = problem(n=30 if dim > DIM else N, dim=dim)
    n, l2 = len(vectors), 0.02
    steps = np.digitize(scores[:, 0], (-2.0, 1.0))
    counts = np.bincount(steps)
    row_weights = (n / (3 * counts))[steps] if class_weights == "balanced" else np.ones(n)
    rows = StandardRows(vectors)
    standard = rows.standardise(vectors).astype(float)

    def objective(point):
        raw = standard @ point[:-2]
        outputs = np.stack([raw - point[-2], raw - point[-2] - np.exp(point[-1])], axis=1)
        return (row_weights * ORDINAL.losses(outputs, steps)).mean() + l2 / 2 * (point[:-2] ** 2).sum()

    expected = minimize(objective, np.zeros(dim + 2), method="L-BFGS-B", options={"maxfun": 10**6, "maxiter": 5000})
    weight, bias = layer(ORDINAL, steps, l2, vectors=vectors, class_weights=class_weights)
    assert np.array_equal(weight[0], weight[1])
    losses = ORDINAL.losses(logits((weight, bias), vectors), steps)
    reached = (row_weights * losses).mean() + l2 / 2 * ((weight[0] * rows.scale) ** 2).sum()
    assert reached <= expected.fun + 2e-6


@pytest.mark.parametrize("n", [N, 8])
@pytest.mark.parametrize("l2", [0.003, 0.3])
def test_number_is_learned_as_scikit_learn_learns_it(n, l2):
    """With fewer rows than features, too."""
    vectors, numbers = VECTORS[:n], SCORES[:n, 0] * 30 + 500
    target = NUMBER.standardised(numbers)
    standard = (vectors - vectors.mean(axis=0)) / vectors.std(axis=0)
    expected = Ridge(alpha=l2 * n).fit(standard, numbers).predict(standard)
    assert target.values(logits(layer(target, numbers, l2, vectors=vectors), vectors)) == pytest.approx(expected, 1e-4)


def test_no_bit_of_the_head_for_a_number_depends_on_the_number_of_cores():
    vectors, scores = problem(n=4000)
    target = NUMBER.standardised(scores[:, 0])
    one, three = (
        layer(target, scores[:, 0], 0.01, rows=StandardRows(vectors, num_threads=num_threads)) for num_threads in (1, 3)
    )
    assert one[0].tobytes() + one[1].tobytes() == three[0].tobytes() + three[1].tobytes()


def test_robust_head_has_the_least_objective_and_hardly_moves_for_numbers_far_off():
    numbers = SCORES[:, 0].copy()
    numbers[:10] = 1000
    target = Number(loss="huber").standardised(numbers)
    found = target.values(logits(layer(target, numbers, 0.01)))
    assert np.abs(found - SCORES[:, 0])[10:].mean() < 2
    plain = Number().standardised(numbers)
    assert np.abs(plain.values(logits(layer(plain, numbers, 0.01))) - SCORES[:, 0])[10:].mean() > 10

    def objective(point):
        apart = np.abs(STANDARD @ point[:-1] + point[-1] - (numbers - target.centre) / target.scale)
        loss = np.where(apart < HUBER_WIDTH, apart**2 / 2, HUBER_WIDTH * (apart - HUBER_WIDTH / 2))
        return loss.mean() + 0.005 * (point[:-1] ** 2).sum()

    least = minimize(objective, np.zeros(DIM + 1), method="L-BFGS-B").fun
    weight, bias = layer(target, numbers, 0.01)
    assert objective(np.append(weight[0] * VECTORS.std(axis=0), bias + weight[0] @ VECTORS.mean(axis=0))) < least + 1e-6


@pytest.mark.parametrize(
    ("target", "truths"), [(SEVERAL, LABELS), (ORDINAL, STEPS), (NUMBER.standardised(SCORES[:, 0]), SCORES[:, 0])]
)
def test_strength_with_the_lowest_loss_on_val_is_chosen_and_the_middle_one_without_val(target, truths):
    few = slice(0, 18 if target is not ORDINAL else 40)
    val = VECTORS[100:], truths[100:]
    strengths = [1e-5, 0.03, 30.0]
    alone = {l2: fit_linear(target, (VECTORS[few], truths[few]), val, options(l2)).val_log_loss for l2 in strengths}
    chosen = fit_linear(target, (VECTORS[few], truths[few]), val, options(*strengths))
    assert chosen.l2 == min(alone, key=alone.get) == 0.03
    assert chosen.val_log_loss == pytest.approx(alone[0.03], abs=1e-4)
    without = fit_linear(target, (VECTORS[few], truths[few]), (VECTORS[:0], truths[:0]), options(*strengths))
    assert (without.l2, without.val_log_loss) == (0.03, None)


def test_head_of_classes_is_that_of_logistic_regression_to_the_bit_and_shares_its_rows():
    labels, names = np.arange(N) % 3, ("x", "y", "z")
    val = VECTORS[:50], labels[:50]
    expected = fit_head((VECTORS, labels), val, options(0.01, 0.1), classes=names)
    rows = StandardRows(VECTORS)
    for _ in range(2):
        found = fit_linear(Classes(names), (rows, labels), val, options(0.01, 0.1))
        assert found.weight.tobytes() == expected.weight.tobytes()
    assert any(name.startswith("whitening") for name in rows._known)


@pytest.mark.parametrize(
    ("target", "truths", "message"),
    [
        (SEVERAL, np.ones((N, 3)), "train has 500 samples with the same labels, expected some with a label"),
        (ORDINAL, np.zeros(N, np.int64), "train has 1 step, expected at least 2: add samples of another step"),
        (ORDINAL, np.arange(N) % 2, "train has no sample of step high: add some, or take it from the scale"),
        (NUMBER, np.full(N, 3.0), "train has the one number 3, expected at least two different ones"),
    ],
)
def test_target_that_never_varies_is_refused_in_one_line(target, truths, message):
    with pytest.raises(ValueError, match=f"^{message}[^\n]*$"):
        fit_linear(target, (VECTORS, truths), (VECTORS, truths), options(0.01))


def test_prior_lets_weights_be_large_in_the_directions_of_other_heads_alone():
    direction = np.eye(DIM)[:1]
    rows = StandardRows(VECTORS)
    numbers = STANDARD[:, 0] + STANDARD[:, 1]
    target = NUMBER.standardised(numbers)
    under = rows.under(prior_of([direction], share=0.99))
    weight, _ = layer(target, numbers, 1.0, rows=under)
    standard = (weight * rows.scale)[0] * target.scale
    assert standard[0] > 0.85
    assert standard[1] < 0.05
    assert prior_of([np.zeros((2, DIM))], share=0.9) is None


def test_rows_of_one_scale_keep_it_where_many_labels_cut_them_into_other_chunks():
    rows = StandardRows(VECTORS, part_dims=[VECTORS.shape[1]])
    others = StandardRows(rows, num_outputs=4000)
    assert others.slices != rows.slices
    assert others.scale == pytest.approx(rows.scale)
