"""Data files to rows, and rows to what TRL trains on. The reading side needs neither torch nor `datasets`."""
