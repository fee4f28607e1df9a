"""Random search of hyperparameters by cross-validation."""
