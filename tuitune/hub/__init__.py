"""The process that owns a run: parent of the trainer, keeper of the journal of GPU, host, log and faults. Small, and without torch."""
