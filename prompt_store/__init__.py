"""What a task is on disk: the prompt file, its template, its metadata, its versions. Knows no torch and no HTTP."""
