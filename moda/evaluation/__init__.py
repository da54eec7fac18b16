"""How well generated faces follow speech, measured on clips of real people: `moda.evaluation.judge`."""
