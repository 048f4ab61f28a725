"""The text as a model understands it, with a map back to the text as it was written.

`characters` folds single characters, `encodings` undoes wrappings, `view` maps offsets, `views` lists what to scan,
`check` scans it.
"""
