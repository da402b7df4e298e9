"""The reader: a small process of its own that serves rows of data files of any size to the workbench.

`python -m tuitune.dataset.reader` speaks the analyst's line protocol (tuitune.analyst.server) and is started by
tuitune.dataset.reader.client. It loads pyarrow when a parquet, Arrow or zstd file is opened, and never the training libraries.
Rows are numbered from 0 here; the workbench counts from 1 for its user.
"""
