def biases(backbone, config):
    """Train the biases alone (Ben Zaken, Ravfogel and Goldberg, "BitFit", ACL 2022); the task's head learns besides."""
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(name.endswith(".bias"))
    return backbone
