"""The SQL that both twins share, one class per subject."""
