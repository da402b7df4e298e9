"""The demo: a real small instruct model, a small data set of our own, and a recipe, ready to train on any box."""
