"""Settings of runs that learn from sequences: text, pairs of sentences, series. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from rlab.errors import RlabError
from rlab.run.config import RunConfig, at_least, within
from rlab.tasks.config import FitConfig


@dataclass(frozen=True)
class SequenceDataConfig:
    """Settings of the sequences that a model is trained on, and of what is held out."""

    data: str = ""
    """A data set (`rlab data list`), or a file of your own."""
    digest: str = ""
    """Of a file of your own: its SHA-256, which a run notes when it starts; a resume refuses another one."""
    validation: float = 0.1
    """Share of the training data that is held out, where no such part is published: it decides when to stop and which
    parameters are the best. 0: nothing is held out, no evaluation is made before the final one, and the last parameters
    are taken."""
    split_seed: int | None = None
    """Seed of what is held out; None: the run's."""
    examples: int = 0
    """Train on this many examples; 0: on all."""

    def __post_init__(self) -> None:
        at_least(self, validation=0, examples=0)
        if self.validation >= 1:
            raise RlabError(f"--validation is {self.validation}; it must be a share below 1")
        if self.split_seed is not None:
            at_least(self, split_seed=0)


Tokens = Literal["auto", "characters", "words", "sentencepiece", "japanese"]


@dataclass(frozen=True)
class TextConfig(SequenceDataConfig):
    """Settings of the text that a language model is trained on."""

    data: str = "shakespeare-small"
    """A data set of text (`rlab data list`), or `text:FILE`."""
    tokens: Tokens = "auto"
    """What text is cut into: characters; words, as white space divides them; sentencepiece, parts of words; japanese,
    words by fugashi. auto: what is usual for the data set."""
    vocabulary: int = 0
    """Different tokens at the most; what is rarer is unknown. 0: 4,000 of sentencepiece, else all that count."""
    window: int = 128
    """Tokens of an example: what the model predicts at a time, and of a Transformer how far it looks back."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, vocabulary=0, window=2)


@dataclass(frozen=True)
class PairsConfig(SequenceDataConfig):
    """Settings of the pairs of sentences that a translator is trained on."""

    data: str = "rule-pairs"
    """A data set of pairs (`rlab data list`), or `pairs:FILE.tsv`: in each line source, tab, target."""
    tokens: Tokens = "auto"
    """What sentences are cut into: characters; words, as white space divides them; sentencepiece, parts of words;
    japanese, words by fugashi. auto: what is usual for the data set."""
    target_tokens: Tokens = "auto"
    """What targets are cut into, if that is something else; auto: the same as sources."""
    vocabulary: int = 0
    """Different tokens of each language at the most; what is rarer is unknown. 0: 4,000 of sentencepiece, else all that
    count."""
    longest: int = 128
    """Tokens of a sentence at the most."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, vocabulary=0, longest=1)


@dataclass(frozen=True)
class LabelledTextConfig(SequenceDataConfig):
    """Settings of the labelled text that a classifier is trained on."""

    data: str = "sentence_polarity"
    """A data set of labelled text (`rlab data list`)."""
    tokens: Tokens = "auto"
    """What text is cut into; see `rlab train transformer-lm --help-all`."""
    vocabulary: int = 0
    """Different tokens at the most; what is rarer is unknown. 0: all that count."""
    longest: int = 512
    """Tokens of a text at the most."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, vocabulary=0, longest=1)


@dataclass(frozen=True)
class SeriesConfig(SequenceDataConfig):
    """Settings of the series, or other labelled sequences, that a model is trained on."""

    data: str = "binary-addition"
    """A data set of series or of sequences made by a rule (`rlab data list`)."""
    standardise: bool = True
    """Of series: give every channel mean 0 and deviation 1, by the training series."""


def usual_heads(width: int) -> int:
    """Heads of attention where none are named: one for 32 units."""
    return max(1, width // 32)


@dataclass(frozen=True)
class BodyConfig:
    """Settings of the sequence encoder in a model."""

    encoder: str = "transformer"
    """A registered sequence encoder (`rlab list encoders`), or a run whose encoder this one starts from: then it also
    has that one's width, layers and form."""
    freeze: bool = False
    """Keep the encoder of the other run as it is."""
    width: int = 128
    """Units of a layer."""
    layers: int = 4
    """How many are stacked."""
    dropout: float = 0.0
    """Share of the units that are dropped in training."""
    heads: int = 0
    """Of attention; 0: one for 32 units."""
    positions: Literal["auto", "learned", "sinusoidal", "rotary", "none"] = "auto"
    """How a Transformer knows the order of its inputs; auto: rotary."""
    norm: Literal["auto", "pre", "post"] = "auto"
    """Where a Transformer normalises: before each part or behind it, as Vaswani et al. 2017 do; auto: before."""
    ffn: Literal["auto", "gelu", "swiglu", "relu"] = "auto"
    """Of a Transformer's feed-forward part; auto: gelu."""

    def __post_init__(self) -> None:
        at_least(self, width=1, layers=1, heads=0)
        if not 0 <= self.dropout < 1:
            raise RlabError(f"--dropout is {self.dropout}; it must be a share below 1")

    def options(self) -> dict[str, Any]:
        """What is set of a Transformer alone, as its factory takes it."""
        chosen = {name: getattr(self, name) for name in ("heads", "positions", "norm", "ffn")}
        return {name: value for name, value in chosen.items() if value not in (0, "auto")}


@dataclass(frozen=True)
class LanguageModelConfig(BodyConfig):
    """Settings of a language model: an embedding of tokens, a causal encoder, and a linear layer over the tokens."""

    tied: bool = True
    """The last layer has the weights of the embedding (Press & Wolf 2017)."""


@dataclass(frozen=True)
class LanguageFitConfig(FitConfig):
    """Settings of the training of a language model."""

    carry: bool = False
    """Windows follow each other in the text, and a recurrent encoder goes on with the state of the one before, through
    which no gradient flows (truncated back-propagation through time). Else windows are drawn, and begin at zero."""


@dataclass(frozen=True)
class WritingConfig:
    """Settings of what a language model writes in evaluations, so that a report shows how it gets better."""

    sample_length: int = 200
    """Tokens that it writes; 0: none."""
    sample_temperature: float = 0.8
    """See `rlab sample --help`."""

    def __post_init__(self) -> None:
        at_least(self, sample_length=0, sample_temperature=0)


@dataclass(frozen=True)
class LanguageExperiment:
    """Settings of a run that learns to predict the next token."""

    run: RunConfig = field(default_factory=RunConfig)
    data: TextConfig = field(default_factory=TextConfig)
    model: LanguageModelConfig = field(default_factory=LanguageModelConfig)
    fit: LanguageFitConfig = field(default_factory=LanguageFitConfig)
    writing: WritingConfig = field(default_factory=WritingConfig)


@dataclass(frozen=True)
class TranslatorConfig:
    """Settings of a translator: an encoder of the source, and a decoder that writes the target."""

    body: Literal["recurrent", "transformer"] = "recurrent"
    """Of encoder and decoder."""
    cell: Literal["gru", "lstm", "rnn"] = "gru"
    """Of a recurrent one."""
    attention: Literal["none", "additive", "dot", "scaled"] = "additive"
    """Of a recurrent one over the source; none: its last state is all that the decoder gets."""
    bidirectional: bool = True
    """Whether a recurrent encoder reads both ways."""
    width: int = 256
    """Units of a layer."""
    layers: int = 1
    """How many are stacked, in encoder and decoder each."""
    heads: int = 4
    """Of a Transformer's attention."""
    norm: Literal["pre", "post"] = "pre"
    """Where a Transformer normalises."""
    dropout: float = 0.1
    """Share of the units that are dropped in training."""

    def __post_init__(self) -> None:
        at_least(self, width=1, layers=1, heads=1)
        if not 0 <= self.dropout < 1:
            raise RlabError(f"--dropout is {self.dropout}; it must be a share below 1")
        other = {"recurrent": ("heads", "norm"), "transformer": ("cell", "attention", "bidirectional")}[self.body]
        for f in fields(self):
            if f.name in other and getattr(self, f.name) != f.default:
                raise RlabError(
                    f"--{f.name} is {getattr(self, f.name)}, which does nothing with --body {self.body}; nearest: "
                    f"--body {'transformer' if self.body == 'recurrent' else 'recurrent'}"
                )


@dataclass(frozen=True)
class TranslationFitConfig(FitConfig):
    """Settings of the training of a translator."""

    scheduled_sampling: float = 0.0
    """Share of the target's tokens in whose place the decoder gets what it has just predicted (Bengio et al. 2015); it
    grows to this over the run. 0: always the right ones."""

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, 0, 1, "scheduled_sampling")


WIDEST_BEAM = 1_000
"""Translations that can be followed at a time."""


@dataclass(frozen=True)
class DecodingConfig:
    """Settings of how a translator writes."""

    beam: int = 4
    """Translations that are followed at a time in tests; validations take the most probable token each time."""
    length_penalty: float = 1.0
    """Exponent of the length by which log probabilities are divided: above 0 long translations are less at a
    disadvantage (Wu et al. 2016)."""
    bleu_tokens: Literal["auto", "none", "13a", "intl", "char"] = "auto"
    """How sacrebleu cuts text into words before it compares; auto: none, where the space is, if the tokens are words;
    13a of sentencepiece, char of characters and Japanese."""

    def __post_init__(self) -> None:
        at_least(self, length_penalty=0)
        within(self, 1, WIDEST_BEAM, "beam")


@dataclass(frozen=True)
class TranslationExperiment:
    """Settings of a run that learns to translate."""

    run: RunConfig = field(default_factory=RunConfig)
    data: PairsConfig = field(default_factory=PairsConfig)
    model: TranslatorConfig = field(default_factory=TranslatorConfig)
    fit: TranslationFitConfig = field(default_factory=TranslationFitConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)

    def __post_init__(self) -> None:
        if self.fit.scheduled_sampling and self.model.body != "recurrent":
            raise RlabError(
                f"--scheduled-sampling is {self.fit.scheduled_sampling}, but a Transformer reads its whole target at "
                "once; nearest: --body recurrent"
            )


@dataclass(frozen=True)
class SequenceClassifierConfig(BodyConfig):
    """Settings of a model that labels a whole sequence, or each of its steps."""

    encoder: str = "gru"
    width: int = 64
    layers: int = 1
    pooling: Literal["auto", "last", "mean", "max"] = "auto"
    """What of a sequence's features the label is told from; auto: the last ones of encoders that read forward, else
    their mean. Where every step has a label, it is told from the features there."""


@dataclass(frozen=True)
class SequenceFitConfig(FitConfig):
    """Settings of the training of a model that labels sequences."""

    loss: Literal["cross-entropy", "squared", "squared-as-printed"] = "cross-entropy"
    """Of classes. squared: half the squared error of a sigmoid output, of two classes. squared-as-printed: the same
    with the wrong gradient of a known listing, whose output's slope is taken at the output in place of its input."""


@dataclass(frozen=True)
class TextClassificationExperiment:
    """Settings of a run that learns to tell the class of a text."""

    run: RunConfig = field(default_factory=RunConfig)
    data: LabelledTextConfig = field(default_factory=LabelledTextConfig)
    model: SequenceClassifierConfig = field(default_factory=SequenceClassifierConfig)
    fit: SequenceFitConfig = field(default_factory=SequenceFitConfig)


@dataclass(frozen=True)
class SeriesExperiment:
    """Settings of a run that learns to label series."""

    run: RunConfig = field(default_factory=RunConfig)
    data: SeriesConfig = field(default_factory=SeriesConfig)
    model: SequenceClassifierConfig = field(default_factory=SequenceClassifierConfig)
    fit: SequenceFitConfig = field(default_factory=SequenceFitConfig)
