"""After training: chat, evaluation, merge, export, push, sweeps; each a job with a hub of its own."""
