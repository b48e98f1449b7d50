"""Text as data: tokenizers, streams of tokens, pairs of sentences, labelled sentences, sequences made by rule."""
