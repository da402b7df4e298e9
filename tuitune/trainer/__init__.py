"""The process that trains: builds the real TRL trainer from a recipe and reports to the journal. Imports no textual."""
