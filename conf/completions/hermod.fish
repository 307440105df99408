# Completion of hermod for fish: it says itself what there is.
hermod completions fish | source
