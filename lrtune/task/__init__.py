"""What the user brings: a model, data, a loss and an optimizer, copied and checked."""
