"""What the Model Zoo asks of a bundle, checked in one go."""
