"""How the speech encoder was made: corpora, phones, training. See docs/speech-encoder.md."""
