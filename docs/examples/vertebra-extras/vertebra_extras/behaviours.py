import torch

from vertebra import hookimpl


class WordDropout:
    """Replace some tokens of each training text by random ones, so that no single word is relied upon."""

    SHARE = 0.1

    @hookimpl
    def forward_starting(self, model, batch):
        ids = batch.input_ids_T
        vocabulary = model.backbone.model.get_input_embeddings().num_embeddings
        dropped = torch.rand(ids.shape, device=ids.device) < self.SHARE
        ids[dropped] = torch.randint_like(ids, vocabulary)[dropped]
