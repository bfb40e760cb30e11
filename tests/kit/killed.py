"""A training that is killed after one of its epochs."""

from tasks.training.finetuning.checkpoint import Checkpoint


class KilledError(Exception):
    """Stands for a kill -9."""


class KilledAfter(Checkpoint):
    """Keeps the training after each epoch, and ends it after this one."""

    def __init__(self, folder, *, recipe, epoch=2):
        super().__init__(folder, recipe=recipe)
        self.epoch = epoch

    def save(self, tensors, *, facts):
        super().save(tensors, facts=facts)
        if len(facts["epochs"]) - 1 == self.epoch:
            raise KilledError
