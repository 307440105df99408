# Completion of hermod for bash: it says itself what there is.
source <(hermod completions bash)
