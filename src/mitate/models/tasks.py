"""What a network's outputs mean: one class of several, any number of them, or values."""

from typing import Literal, get_args

from torch import Tensor

from mitate.errors import UsageError

Task = Literal["single-label", "multi-label", "regression"]
PROBLEMS: dict[object, Task] = {
    "multi_label_classification": "multi-label",
    "regression": "regression",
}


ONE_OUTPUT = (
    "a network of one output has no other class to exclude: its output is read as that class's own "
    "log-odds (a sigmoid); where it is a value give task='regression'"
)


def check_task(task: str) -> None:
    """Refuse what is no task.

    Raises:
        UsageError: it is none.
    """
    if task not in get_args(Task):
        raise UsageError(f"task {task!r}: it is one of {', '.join(get_args(Task))}")


def task_of(problem_type: object, classes: int) -> Task:
    """The task that ``problem_type`` of a Hugging Face configuration of so many classes means."""
    return PROBLEMS.get(problem_type, "single-label" if classes > 1 else "regression")


def likelihood(task: Task, logits: Tensor) -> Tensor:
    """What outputs (..., classes) say of each class: a probability, or the value itself.

    The softmax over classes where they exclude each other, a sigmoid of each where they do not.
    """
    if task == "regression":
        return logits
    return logits.sigmoid() if task == "multi-label" else logits.softmax(-1)


def word(task: Task) -> str:
    """What a likelihood is called."""
    return "value" if task == "regression" else "probability"


def told(task: Task, likely: float) -> str:
    """A likelihood in words: a percentage, or the value itself."""
    return f"{likely:.4g}" if task == "regression" else f"{100 * likely:.1f} %"
