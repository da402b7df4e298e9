"""Preflight: what can be known to go wrong before a GPU is touched, and how to put it right.

One module (or package) a letter of the catalogue: tokenizer, embeddings, template, data, adapter, quantisation, settings, environment.
A check is a function under `@check`; registry.py lists them, run.py runs them, repair.py applies their fixes, preflight.py does it all for
one recipe. No module here imports torch or transformers when it is imported; checks of later stages get what they need from their context.
"""
