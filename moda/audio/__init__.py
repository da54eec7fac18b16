"""Sound -> what the generator hears: decoding (`decode`), log-mel (`mel`), encoders (`speech`, `hubert`)."""
