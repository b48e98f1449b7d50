"""Tasks on sequences: language models, translation, classification of series and texts, word vectors, dialogue."""
