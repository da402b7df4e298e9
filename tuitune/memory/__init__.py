"""How much GPU memory a run takes, by component and phase: pure arithmetic on a model's shape and a recipe's settings.

`shape` (the model; `families`, `dense` and `mixtures` read it from config.json), `settings` (the run), `static` (what stays),
`activations`, `working`, `loss`, `allocator`, `plan` (all of it, the peak), `advice` (what to change). Imports no torch, no transformers,
no numpy: a plan takes well under a millisecond, so sliders may call it.
"""
