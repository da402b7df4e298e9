"""How the processes of a run talk: journals (events, append-only files that are tailed) and sockets (commands and replies)."""
