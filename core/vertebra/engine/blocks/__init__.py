"""The layers of common families written out for speed, over the parameters of transformers' own modules."""
