"""The parts of the run dashboard (views/run_dashboard.py): header, charts, memory, log, config and events."""
