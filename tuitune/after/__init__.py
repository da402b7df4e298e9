"""What comes after training: jobs that chat with, measure, merge, export and publish what a run has made.

`job`, `source`, `start` and `commands` are of the terminal side and import no torch; the module of each kind runs in the job's process.
"""
