"""What each command does, in Python: photos on disk in, figures, tables and pages out."""
