"""Recipes: YAML with positions, the schema of the installed libraries, problems with fixes, the ledger.

A terminal-side package: imports neither torch nor transformers, trl, peft, datasets. Reading order: problems, yaml_reader, document,
sections, schema, values, keys, validate; cursor and complete serve the editor; recipe and ledger the trainer.
"""
