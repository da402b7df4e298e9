"""The memory of a model that no formula describes, counted on its real modules without memory (FakeTensorMode) and without a GPU."""
