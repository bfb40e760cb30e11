import pandas as pd

from tasks.page.curves import curves


def epochs(*, losses, kept):
    numbers = range(len(losses))
    is_kept = [int(epoch == kept) for epoch in numbers]
    lines = dict.fromkeys(("train_loss", "val_loss", "val_calibrated_loss"), losses)
    return pd.DataFrame({"epoch": numbers, "is_kept": is_kept} | lines)


def test_curve_goes_from_edge_to_edge_and_marks_the_kept_epoch():
    drawn = curves(epochs(losses=[2.0, 1.0, 0.0], kept=1), "loss", width=100, height=50)
    assert drawn["lines"]["val"] == "0.0,0.0 50.0,25.0 100.0,50.0"
    assert drawn["kept"] == 50.0


def test_curve_of_accuracy_ends_at_1():
    table = pd.DataFrame(
        {"epoch": [0, 1], "train_accuracy": [None, 0.75], "val_accuracy": [0.5, 1.0], "is_kept": [0, 1]}
    )
    drawn = curves(table, "accuracy", width=100, height=50)
    assert drawn["lines"] == {"train": "100.0,25.0", "val": "0.0,50.0 100.0,0.0"}


def test_curve_of_no_epochs_is_one_point():
    assert curves(epochs(losses=[0.5], kept=0), "loss", width=100, height=50)["lines"]["val"] == "0.0,0.0"
