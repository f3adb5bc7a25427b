from torch import nn

from vertebra import Features, Mean, Task
from vertebra.errors import DataError


class MultipleChoice(Task):
    """The right one of a question's choices, by its place from 0; each choice is read with the question and scored."""

    name = "multiple_choice"
    columns = {"question": str, "choices": list, "answer": int}
    input_columns = ("question", "choices")
    metrics = ("choice_accuracy",)
    attention = "bidirectional"

    def check(self, row):
        if not row["choices"] or not all(isinstance(choice, str) for choice in row["choices"]):
            raise DataError("column 'choices' must be a list of texts.")
        if "answer" in row and not 0 <= row["answer"] < len(row["choices"]):
            raise DataError(f"column 'answer' must be the place of a choice, from 0, not {row['answer']}.")

    def encode(self, row, tokenizer):
        targets = [float(place == row["answer"]) if "answer" in row else None for place in range(len(row["choices"]))]
        ids = [tokenizer(f"{row['question']}\n{choice}", split_special_tokens=True) for choice in row["choices"]]
        return [Features(*pair) for pair in zip(ids, targets, strict=True)]

    def build_head(self, width):
        return nn.Linear(width, 1)

    def loss(self, outputs_N1, targets_N):
        return nn.functional.binary_cross_entropy_with_logits(outputs_N1.squeeze(1), targets_N)

    def decode(self, outputs_N1, batch):
        return outputs_N1.squeeze(1).tolist()

    def combine(self, row, parts):
        return parts.index(max(parts))


class ChoiceAccuracy(Mean):
    """The share of questions that are answered right."""

    name = "choice_accuracy"

    def value(self, prediction, reference):
        return float(prediction == reference)
