import torch

from vertebra import hookimpl


class FastGradient:
    """Adversarial training (Miyato, Dai and Goodfellow, ICLR 2017): each piece of a step is learnt twice.

    The second time, the embeddings are moved by `SIZE` along their gradient, to where the loss is higher.
    """

    SIZE = 1.0

    @hookimpl
    def backward_ended(self, model, compute_loss):
        weight = model.backbone.model.get_input_embeddings().weight
        if weight.grad is None:
            return
        before = weight.detach().clone()
        try:
            with torch.no_grad():
                weight += self.SIZE * weight.grad / weight.grad.norm().clamp(min=1e-12)
            compute_loss().backward()
        finally:  # also where memory runs out
            with torch.no_grad():
                weight.copy_(before)
