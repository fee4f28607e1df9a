"""Trains the weights that a bundle ships, measures them and puts them in place."""
