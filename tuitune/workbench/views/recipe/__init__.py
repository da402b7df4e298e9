"""The parts of the recipe editor (views/recipe_editor.py): the file on disk, completion, find."""
