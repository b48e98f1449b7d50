"""Recipes of sequences: language models, translators, classifiers. Torch is imported when one is built."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from rlab.data.catalog import DATASETS
from rlab.data.own import OWN, OwnSettings
from rlab.errors import RlabError
from rlab.registry import RECIPES, Recipe
from rlab.run.config import RunConfig
from rlab.tasks.config import FitConfig
from rlab.tasks.sequence.config import (
    BodyConfig,
    LabelledTextConfig,
    LanguageExperiment,
    LanguageFitConfig,
    LanguageModelConfig,
    PairsConfig,
    SequenceClassifierConfig,
    SequenceDataConfig,
    SequenceFitConfig,
    SeriesConfig,
    SeriesExperiment,
    TextClassificationExperiment,
    TextConfig,
    TranslationExperiment,
    TranslationFitConfig,
    TranslatorConfig,
    usual_heads,
)


def describe_sequences(experiment: Any) -> dict[str, str]:
    """Describe a run on sequences, as `rlab train` prints it before the run starts: label -> text."""
    part, model = experiment.data, experiment.model
    held_out = f"{100 * part.validation:g} % held out" if part.validation else "nothing held out"
    cut = f", {part.tokens}" if getattr(part, "tokens", "auto") != "auto" else ""
    body = getattr(model, "encoder", "") or model.body
    layers = f"{model.layers} layer{'s' * (model.layers != 1)} of {model.width}"
    return {"data": f"{part.data}{cut}, {experiment.fit.epochs} epochs, {held_out}", "encoder": f"{body}, {layers}"}


ATTENDING = ("transformer", "gtrxl")
"""Encoders that have heads, positions, norms and feed-forward parts to choose."""

WINDOW = 256
"""Tokens of the windows that a data set's number of examples is of."""

LARGE = 1_000
"""Windows from which on a text is worth a larger model."""


def _run_config(examples: int) -> RunConfig:
    pace = max(examples, 1_000)
    return RunConfig(evaluate_steps=pace, checkpoint_steps=10 * pace, log_steps=max(pace // 10, 1))


def default_language(recurrent: bool, data: str) -> LanguageExperiment:
    """The settings that a language model starts from on a text."""
    name = data or TextConfig().data
    source = DATASETS.get(name)
    large = source.examples >= LARGE
    window = 64 if recurrent else 256 if large else 128
    if recurrent:
        model = LanguageModelConfig(encoder="lstm", width=512 if large else 256, layers=1, dropout=0.2)
        fit = LanguageFitConfig(epochs=20, batch_size=32, learning_rate=3e-3, max_grad_norm=1.0, carry=True)
    else:
        size = {"width": 256, "layers": 6} if large else {"width": 128, "layers": 4}
        model = LanguageModelConfig(dropout=0.1, **size)  # type: ignore[arg-type]
        fit = LanguageFitConfig(epochs=20, batch_size=32, learning_rate=2e-3, max_grad_norm=1.0)
    part = TextConfig(data=name, window=window)
    return LanguageExperiment(_run_config(source.examples * WINDOW // window), part, model, fit)


def build_language(experiment: LanguageExperiment, context: Any) -> Any:
    """Build the Learner of a language model.

    Raises:
        RlabError: the data are no text, the encoder is unknown, reads both ways, or cannot carry a state.
    """
    from rlab.nn.sequence.language import LanguageModel
    from rlab.seeding import derive
    from rlab.tasks.sequence.language_model import LanguageModelling, Vocabulary
    from rlab.tasks.trainer import Trainer

    run, part, settings, fit = experiment.run, experiment.data, experiment.model, experiment.fit
    data = sequences_of(part, run.seed, ("text",), {"window": part.window})
    data = data.in_streams(fit.batch_size) if fit.carry else data
    options = _options(settings, context=part.window)
    sizes = settings.width, settings.layers, settings.dropout, settings.tied
    model = _initial(
        lambda: LanguageModel(len(data.tokenizer), settings.encoder, *sizes, **options), settings, run.seed, context
    )
    task = LanguageModelling(
        data,
        model,
        _optimizer(model, settings, fit),
        batch_size=fit.batch_size,
        label_smoothing=fit.label_smoothing,
        writing=experiment.writing,
        bf16=_bf16(fit, context, settings.encoder in ATTENDING),
        max_grad_norm=fit.max_grad_norm,
        seed=derive(run.seed, "batches"),
        device=context.device,
    )
    beside: dict[str, Any] = {"vocabulary": Vocabulary(data.tokenizers, part.data), "carried": task.carried}
    return Trainer(task, fit, run.seed, context.device, beside)


TRANSLATORS: dict[str, tuple[TranslatorConfig, str]] = {
    "translate": (TranslatorConfig(), "translator with attention: as the recipe attention"),
    "seq2seq": (TranslatorConfig(attention="none"), "encoder and decoder, one vector between them (Cho et al. 2014)"),
    "attention": (TranslatorConfig(), "encoder and decoder with additive attention (Bahdanau et al. 2015)"),
    "transformer": (
        TranslatorConfig(body="transformer", layers=3),
        "encoder and decoder of attention alone (Vaswani et al. 2017)",
    ),
}
"""Recipe -> (its model, summary)."""


def default_translation(recipe: str, data: str) -> TranslationExperiment:
    """The settings that a translator starts from on pairs of sentences."""
    name = data or PairsConfig().data
    source, model = DATASETS.get(name), TRANSLATORS[recipe][0]
    large = source.examples >= 10_000
    model = replace(model, width=256 if large else 128, dropout=0.2 if large else 0.1)
    fit = TranslationFitConfig(
        epochs=10 if large else 30,
        batch_size=128 if large else 64,
        learning_rate=1e-3 if model.body == "transformer" else 3e-3,
        label_smoothing=0.1,
        max_grad_norm=1.0,
    )
    return TranslationExperiment(_run_config(source.examples), PairsConfig(data=name), model, fit)


def build_translation(experiment: TranslationExperiment, context: Any) -> Any:
    """Build the Learner of a translator.

    Raises:
        RlabError: the data are no pairs of sentences.
    """
    from rlab.nn.sequence.seq2seq import Seq2Seq, TransformerTranslator
    from rlab.seeding import derive
    from rlab.tasks.sequence.language_model import Vocabulary
    from rlab.tasks.sequence.translation import TranslationTask
    from rlab.tasks.trainer import Trainer

    run, part, settings, fit = experiment.run, experiment.data, experiment.model, experiment.fit
    target = "" if part.target_tokens == "auto" else part.target_tokens
    data = sequences_of(part, run.seed, ("pairs",), {"longest": part.longest, "target_tokens": target})
    attending = settings.body == "transformer"
    vocabularies = len(data.source_tokenizer), len(data.target_tokenizer)
    sizes = {"width": settings.width, "layers": settings.layers, "dropout": settings.dropout}

    def make() -> Any:
        if attending:
            return TransformerTranslator(*vocabularies, heads=settings.heads, norm=settings.norm, **sizes)  # type: ignore[arg-type]
        encoder = ("bi" if settings.bidirectional else "") + settings.cell
        return Seq2Seq(*vocabularies, encoder, settings.cell, settings.attention, **sizes)  # type: ignore[arg-type]

    model = _initial(make, None, run.seed, context)
    task = TranslationTask(
        data,
        model,
        _optimizer(model, None, fit),
        batch_size=fit.batch_size,
        label_smoothing=fit.label_smoothing,
        scheduled_sampling=fit.scheduled_sampling,
        epochs=fit.epochs,
        longest=part.longest,
        decoding=experiment.decoding,
        bf16=_bf16(fit, context, attending),
        max_grad_norm=fit.max_grad_norm,
        seed=derive(run.seed, "batches"),
        device=context.device,
    )
    return Trainer(task, fit, run.seed, context.device, {"vocabulary": Vocabulary(data.tokenizers, part.data)})


ADDER = "binary-addition"
"""The data of a known listing, whose network and training are the defaults there."""


def default_text_classification(data: str) -> TextClassificationExperiment:
    """The settings that a classifier of texts starts from."""
    part = LabelledTextConfig(data=data or LabelledTextConfig().data)
    model = SequenceClassifierConfig(encoder="bigru", width=128, dropout=0.5)
    fit = SequenceFitConfig(epochs=8, batch_size=64, learning_rate=2e-3, max_grad_norm=1.0)
    return TextClassificationExperiment(_run_config(DATASETS.get(part.data).examples), part, model, fit)


def default_series(data: str) -> SeriesExperiment:
    """The settings that a model of series, or of labelled steps, starts from."""
    part = SeriesConfig(data=data or SeriesConfig().data)
    source = DATASETS.get(part.data)
    if part.data == ADDER:
        model = SequenceClassifierConfig(encoder="elman", width=16)
        plain = {"optimiser": "sgd", "learning_rate": 0.1, "schedule": "constant", "weight_decay": 0.0}
        fit = SequenceFitConfig(epochs=1, batch_size=1, loss="squared", **plain)  # type: ignore[arg-type]
        run = RunConfig(evaluate_steps=1_000, checkpoint_steps=5_000, log_steps=100)
        return SeriesExperiment(run, replace(part, examples=10_000), model, fit)
    steps = source.kind == "labelled steps"
    pooling = SequenceClassifierConfig().pooling if steps else "max"
    model = SequenceClassifierConfig(encoder="lstm" if steps else "bigru", width=64, pooling=pooling)
    fit = SequenceFitConfig(epochs=30, batch_size=32, learning_rate=3e-3, max_grad_norm=1.0)
    return SeriesExperiment(_run_config(source.examples), part, model, fit)


def build_classification(
    kinds: tuple[str, ...], experiment: TextClassificationExperiment | SeriesExperiment, context: Any
) -> Any:
    """Build the Learner of a classifier of texts, of series, or of the steps of sequences.

    Raises:
        RlabError: the data are of another kind, or their labels are numbers.
    """
    import torch

    from rlab.nn.sequence import make_sequence_encoder
    from rlab.nn.sequence.classifier import SequenceClassifier
    from rlab.seeding import derive
    from rlab.tasks.sequence.classification import SequenceClassification, channel_scale, outputs_of
    from rlab.tasks.sequence.language_model import Vocabulary
    from rlab.tasks.trainer import Trainer

    run, part, settings, fit = experiment.run, experiment.data, experiment.model, experiment.fit
    more: dict[str, Any] = {"longest": part.longest} if isinstance(part, LabelledTextConfig) else {}
    data = sequences_of(part, run.seed, kinds, more)
    if data.classes is None:
        raise RlabError(f"the labels of '{part.data}' are numbers, and this model tells classes")
    options = _options(settings, context=getattr(part, "longest", 0) + 1 if more else 2_048)
    options |= {"causal": False} if settings.encoder in ATTENDING else {}

    def make() -> SequenceClassifier:
        vocabulary = None if data.kind != "labelled text" else len(data.tokenizer)
        embedding = None if vocabulary is None else torch.nn.Embedding(vocabulary, settings.width)
        width = settings.width if embedding is not None else data.x.shape[2]
        encoder = make_sequence_encoder(
            settings.encoder, width, settings.width, settings.layers, settings.dropout, **options
        )
        pooling = settings.pooling if settings.pooling != "auto" else "last" if encoder.causal else "mean"
        scale = channel_scale(data) if data.kind == "series" and part.standardise else None  # type: ignore[union-attr]
        return SequenceClassifier(
            encoder,
            outputs_of(fit.loss, data.classes),
            embedding,
            "steps" if data.kind == "labelled steps" else pooling,
            settings.dropout,
            scale,
            plain=settings.encoder == "elman",
        )

    model = _initial(make, settings, run.seed, context)
    task = SequenceClassification(
        data,
        model,
        _optimizer(model, settings, fit),
        batch_size=fit.batch_size,
        loss=fit.loss,
        label_smoothing=fit.label_smoothing,
        bf16=_bf16(fit, context, settings.encoder in ATTENDING),
        max_grad_norm=fit.max_grad_norm,
        seed=derive(run.seed, "batches"),
        device=context.device,
    )
    beside = {"vocabulary": Vocabulary(data.tokenizers, part.data)} if more else {}
    return Trainer(task, fit, run.seed, context.device, beside)


def sequences_of(part: SequenceDataConfig, seed: int, kinds: tuple[str, ...], more: dict[str, Any]) -> Any:
    """Load a data set of sequences as a run with this seed uses it.

    Args:
        part: which, and how it is cut.
        seed: of the run.
        kinds: of data sets, that the recipe takes.
        more: settings of `rlab.data.text.settings.TextSettings` beside the tokens.

    Raises:
        RlabError: there is no such set, it is of another kind, or has not so many examples.
    """
    from rlab.data.datasets import load
    from rlab.data.text.settings import TextSettings
    from rlab.seeding import derive

    kind = DATASETS.get(part.data).kind
    if kind not in kinds:
        named = [name for name in DATASETS if DATASETS.get(name).kind in kinds]
        fitting = ", ".join([*named, *(f"{prefix}:FILE" for prefix, own in OWN.items() if own.kind in kinds)])
        raise RlabError(f"'{part.data}' is of kind {kind}, and this model learns from {' or '.join(kinds)}: {fitting}")
    tokens = getattr(part, "tokens", "auto")
    cut = TextSettings("" if tokens == "auto" else tokens, getattr(part, "vocabulary", 0), **more)
    drawn_by = derive(seed if part.split_seed is None else part.split_seed, "data")
    data = load(part.data, drawn_by, part.validation, own=OwnSettings(digest=part.digest), text=cut)
    return _fewer(data, part.examples, seed) if part.examples else data


def _fewer(data: Any, n: int, seed: int) -> Any:
    """The data set with n of its training examples: of running text the first windows, else drawn ones."""
    import torch

    from rlab.seeding import derive

    items = data.splits["train"]
    if not 1 <= n <= len(items):
        raise RlabError(f"data set '{data.name}' has {len(items):,} training examples, so {n:,} cannot be taken")
    generator = torch.Generator().manual_seed(derive(seed, "fewer"))
    chosen = items[:n] if data.kind == "text" else items[torch.randperm(len(items), generator=generator)[:n]].sort()[0]
    return replace(data, splits=data.splits | {"train": chosen})


def note_files(experiment: Any) -> Any:
    """The same settings, with the whole path of a user's file, and its digest.

    Raises:
        RlabError: the file cannot be read, or another digest was asked for.
    """
    part = experiment.data
    files = DATASETS.get(part.data).own
    if files is None:
        return experiment
    part = replace(part, data=f"{part.data.partition(':')[0]}:{files.path}")
    if not part.digest:  # else reading it refuses another one
        part = replace(part, digest=files.digest(OwnSettings()))
    return replace(experiment, data=part)


def warm_start(experiment: Any) -> tuple[Any, Any]:
    """Take the encoder of another run, if one is named, and note a user's file."""
    from rlab.tasks import transfer

    return transfer.warm_start_encoder("model", note_files(experiment), sequence=True)


def _options(settings: BodyConfig, context: int) -> dict[str, Any]:
    """What a Transformer takes beside its sizes; other encoders have none of it.

    Raises:
        RlabError: something is set that the encoder has not.
    """
    options = settings.options()
    if settings.encoder in ATTENDING:
        return {"heads": usual_heads(settings.width), "context": context} | options
    if options:
        name, value = next(iter(options.items()))
        raise RlabError(
            f"--{name} is {value}, which encoder '{settings.encoder}' has not; nearest: --encoder transformer"
        )
    return options


def _initial(make: Any, settings: BodyConfig | None, seed: int, context: Any) -> Any:
    """The model as training finds it: alike on every device, or with the encoder of another run."""
    import torch

    from rlab.seeding import derive
    from rlab.tasks.transfer import freeze, start_from

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "network"))
        model = make()
    if settings is not None and context.start is not None:
        start_from([model.encoder], context.start)
    if settings is not None and settings.freeze:
        freeze([model.encoder])
    return model


BETAS = (0.9, 0.99)
"""Of Adam: the gradient of a few hundred words at a time says less of its size than it does of images."""


def _optimizer(model: Any, settings: BodyConfig | None, fit: FitConfig) -> Any:
    """The optimiser over the parameters that learn; weights decay."""
    from rlab.nn.optim import decayed, make_optimiser
    from rlab.tasks.recipes import fused

    if fit.optimiser == "lbfgs":
        raise RlabError("lbfgs computes a batch several times in each step, which costs too much here; nearest: adamw")
    groups = decayed(model, fit.weight_decay)
    groups = [group | {"params": [p for p in group["params"] if p.requires_grad]} for group in groups]
    betas = {"betas": BETAS} if fit.optimiser in ("adam", "adamw") else {}
    groups = [group for group in groups if group["params"]]
    return make_optimiser(fit.optimiser, groups, lr=fit.learning_rate, **betas, **fused(fit.optimiser))


def _bf16(fit: FitConfig, context: Any, products: bool) -> bool:
    """Whether a model computes in bf16: if asked for, or one of large products where the hardware is faster so."""
    import torch

    from rlab.nn.precision import use_bf16

    return use_bf16(fit.precision, torch.device(context.device), products)


for _name, _recurrent, _summary in (
    ("transformer-lm", False, "language model: a Transformer that predicts the next token (Radford et al. 2018)"),
    ("rnn-lm", True, "language model of an LSTM, by truncated back-propagation through time (Mikolov et al. 2010)"),
):
    RECIPES.register(_name)(
        Recipe(
            _summary,
            partial(default_language, _recurrent),
            build_language,
            subject=("data",),
            unit="examples",
            budget="fit.epochs",
            describe=describe_sequences,
            family="sequences",
            takes=("text",),
            shown_by="sample",
            memory_hint="take a smaller --batch-size, --window or --width",
            warm_start=warm_start,
        )
    )
for _name, (_, _summary) in TRANSLATORS.items():
    RECIPES.register(_name)(
        Recipe(
            _summary,
            partial(default_translation, _name),
            build_translation,
            subject=("data",),
            unit="examples",
            budget="fit.epochs",
            describe=describe_sequences,
            family="sequences",
            takes=("pairs",),
            shown_by="translate",
            memory_hint="take a smaller --batch-size or --width",
            warm_start=lambda experiment: (note_files(experiment), None),
        )
    )
for _name, _default, _kinds, _summary in (
    ("classify-text", default_text_classification, ("labelled text",), "recurrent classifier of texts"),
    (
        "rnn",
        default_series,
        ("series", "labelled steps"),
        "recurrent classifier of series, or of each step of sequences",
    ),
):
    RECIPES.register(_name)(
        Recipe(
            _summary,
            _default,
            partial(build_classification, _kinds),
            subject=("data",),
            unit="examples",
            budget="fit.epochs",
            describe=describe_sequences,
            family="sequences",
            takes=_kinds,
            memory_hint="take a smaller --batch-size or --width",
            warm_start=warm_start,
        )
    )
