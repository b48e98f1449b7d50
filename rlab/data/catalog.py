"""The data sets that the lab knows: what they are, where they come from, digests, licences. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from rlab.data import digit_scenes, own, readers, sound, synthetic
from rlab.data.annotations import AnnotatedImages, blood_cells, nuclei_instances
from rlab.data.text import corpora, dialogues, rules
from rlab.registry import Registry

if TYPE_CHECKING:
    from rlab.data.batches import Dataset
    from rlab.data.readers import Arrays, Read
    from rlab.data.sound import Recordings


@dataclass(frozen=True)
class File:
    """One file of a data set.

    Attributes:
        name: of the file, in the set's folder.
        size: in bytes, as it is at its address (or of our own archive, where it has none).
        sha256: of the file, in hex; of what is in it, if it is packed.
        address: where it can be downloaded; None if the public form is another, so that a person has to put it there.
        packed: a gzip file, of which the content counts: how it was packed does not.
    """

    name: str
    size: int
    sha256: str
    address: str | None = None
    packed: bool = False


@dataclass(frozen=True)
class DataSource:
    """One data set.

    Attributes:
        kind: images, segmentation, table, series, text, pairs (of sentences), labelled text, labelled steps,
            detection, dialogues, waves or games.
        summary: one line: what, how much.
        licence: under which it is published.
        source: the page that describes it.
        load: reader of checked files -> arrays of labelled items, or images with boxes; None where the lab cannot make
            tensors of it.
        files: all its files; none if scikit-learn brings it.
        examples: to train on, about: the pace of a run; 0: not known.
        folder: where its files lie, below a folder of data sets; empty is the set's own name.
        make: (reader, seed, validation share or None) -> a data set of another kind, in place of `load`.
        own: files of the user's that are read by settings, in place of `load`.
        corpus: reader of checked files -> text, in place of `load`.
        tokens: what text is usually cut into, one of `rlab.data.text.settings.KINDS`.
        shape: of an image, channels, height and width; () of other data, and where only reading it tells.
        masks: whether objects of detection have masks, too.
    """

    kind: str
    summary: str
    licence: str
    source: str
    load: Callable[[Read], Recordings | Arrays | AnnotatedImages] | None = None
    files: tuple[File, ...] = ()
    examples: int = 0
    folder: str = ""
    make: Callable[[Read, int, float | None], Dataset] | None = None
    own: own.OwnFiles | None = None
    corpus: Callable[[Read], corpora.Corpus] | None = None
    tokens: str = "characters"
    shape: tuple[int, ...] = ()
    masks: bool = False

    @property
    def kinds(self) -> set[str]:
        """Its kind, and ``instances`` of objects with masks: what models say that they take."""
        return {self.kind, "instances"} if self.masks else {self.kind}

    @property
    def loadable(self) -> bool:
        """Whether the lab can make tensors of it."""
        return any(way is not None for way in (self.load, self.make, self.own, self.corpus))

    @property
    def embedded(self) -> bool:
        """Whether it needs no file."""
        return not self.files


class DataSets(Registry[DataSource]):
    """The registry of data sets, in which ``images:DIR``, ``csv:FILE`` and others are a user's (`rlab.data.own`)."""

    def get(self, name: str) -> DataSource:
        """Look a name up.

        Raises:
            RlabError: the name is unknown, or the files are not there.
        """
        files = own.files_of(name)
        if files is None:
            return super().get(name)
        return DataSource(
            kind=files.kind,
            summary=f"your own: {files.path}",
            licence="your own",
            source=str(files.path),
            examples=files.examples(),
            own=files,
            tokens=files.tokens,
            masks=files.kind == "detection",  # its files may have outlines
        )


DATASETS = DataSets("data set")
"""name -> data set. A user's own plugs in by ``DATASETS.register("mine")(DataSource(...))``."""


def folder_of(name: str) -> str:
    """The folder of a set, below a folder of data sets."""
    return DATASETS.get(name).folder or name.rpartition(":")[2]


_IDX = (
    ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
)


def _idx_files(base: str, sizes: tuple[int, ...], digests: tuple[str, ...]) -> tuple[File, ...]:
    names = (*_IDX[0], *_IDX[1])
    return tuple(
        File(name, size, digest, base + name, packed=True)
        for name, size, digest in zip(names, sizes, digests, strict=True)
    )


DATASETS.register("mnist")(
    DataSource(
        kind="images",
        summary="handwritten digits: 60,000 + 10,000 grey images 28x28, 10 classes",
        licence="CC BY-SA 3.0",
        source="http://yann.lecun.com/exdb/mnist/",
        shape=(1, 28, 28),
        examples=54_000,
        load=partial(readers.idx, names=_IDX, classes=tuple("0123456789")),
        files=_idx_files(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            (9_912_422, 28_881, 1_648_877, 4_542),
            (
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
        ),
    )
)

DATASETS.register("fashion_mnist")(
    DataSource(
        kind="images",
        summary="clothes: 60,000 + 10,000 grey images 28x28, 10 classes",
        licence="MIT",
        source="https://github.com/zalandoresearch/fashion-mnist",
        shape=(1, 28, 28),
        examples=54_000,
        load=partial(
            readers.idx,
            names=_IDX,
            classes=(
                "T-shirt/top",
                "trouser",
                "pullover",
                "dress",
                "coat",
                "sandal",
                "shirt",
                "sneaker",
                "bag",
                "ankle boot",
            ),
        ),
        files=_idx_files(
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            (26_421_880, 29_515, 4_422_102, 5_148),
            (
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
        ),
    )
)

DATASETS.register("fsdd")(
    DataSource(
        kind="series",
        summary="Free Spoken Digit Dataset: 3,000 recordings at 8 kHz, 6 speakers, 10 classes; test is takes 0 to 4",
        licence="CC BY-SA 4.0",
        source="https://github.com/Jakobovski/free-spoken-digit-dataset",
        examples=2_430,
        load=partial(readers.spoken_digits, archive="fsdd.tar.xz", samples=8192),
        files=(File("fsdd.tar.xz", 13_521_484, "4745379cef9c6a4ad545c3fed8c19bf8d07ba79ab46e0a2346c28588f59c2561"),),
    )
)

for _name, _speaker in (("fsdd_mel", ""), ("fsdd_mel_speaker", "theo")):
    DATASETS.register(_name)(
        DataSource(
            kind="series",
            summary="fsdd as log-mel spectrograms, 40 bands every 10 ms; test is "
            + (f"the speaker {_speaker}, whom training has not" if _speaker else "takes 0 to 4"),
            licence="CC BY-SA 4.0",
            source="https://github.com/Jakobovski/free-spoken-digit-dataset",
            examples=2_250 if _speaker else 2_430,
            load=partial(readers.spoken_digits_mel, archive="fsdd.tar.xz", samples=8192, speaker=_speaker),
            files=DATASETS.get("fsdd").files,
            folder="fsdd",
        )
    )

DATASETS.register("fsdd_wave")(
    DataSource(
        kind="waves",
        summary="fsdd as mu-law codes with digit and speaker, 8,000 a second; test is takes 0 to 4",
        licence="CC BY-SA 4.0",
        source="https://github.com/Jakobovski/free-spoken-digit-dataset",
        examples=2_430,
        load=sound.spoken_digits,
        files=DATASETS.get("fsdd").files,
        folder="fsdd",
    )
)

DATASETS.register("japanese_vowels")(
    DataSource(
        kind="series",
        summary="vowels of 9 speakers: 270 + 370 series of 12 channels, 7 to 29 steps, 9 classes",
        licence="CC BY 4.0",
        source="https://archive.ics.uci.edu/dataset/128/japanese+vowels (as .ts: timeseriesclassification.com)",
        examples=243,
        load=partial(readers.ts_series, names=("JapaneseVowels_TRAIN.ts", "JapaneseVowels_TEST.ts")),
        files=(
            File(
                "JapaneseVowels_TRAIN.ts",
                487_971,
                "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd",
            ),
            File(
                "JapaneseVowels_TEST.ts",
                649_132,
                "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462",
            ),
        ),
    )
)

DATASETS.register("dsb2018")(
    DataSource(
        kind="segmentation",
        summary="cell nuclei: 538 microscope images, resized to 96x96, with masks of 2 classes",
        licence="CC0",
        source="https://bbbc.broadinstitute.org/BBBC038",
        shape=(3, 96, 96),
        examples=377,
        load=partial(readers.nuclei, archive="dsb2018_small.tar", side=96),
        files=(
            File("dsb2018_small.tar", 24_033_280, "3355e25f3a3d3da60742edef9c4fe0caab6d8dc98cabd6f5202f0a8720738120"),
        ),
        folder="dsb2018_bbbc038",
    )
)

DATASETS.register("dsb2018_instances")(
    DataSource(
        kind="detection",
        summary="cell nuclei: the 538 images of dsb2018 in 192x192, each nucleus an object with box and mask",
        licence="CC0",
        source="https://bbbc.broadinstitute.org/BBBC038",
        shape=(3, 192, 192),
        masks=True,
        examples=377,
        load=partial(nuclei_instances, archive="dsb2018_small.tar", side=192),
        files=DATASETS.get("dsb2018").files,
        folder="dsb2018_bbbc038",
    )
)

DATASETS.register("digit-scenes")(
    DataSource(
        kind="detection",
        summary="480 + 120 scenes 64x64 of up to 5 of scikit-learn's digits, with boxes and masks, 10 classes",
        licence="CC BY 4.0 (UCI)",
        source="https://scikit-learn.org/stable/datasets/toy_dataset.html",
        shape=(1, 64, 64),
        masks=True,
        examples=432,
        load=digit_scenes.digit_scenes,
    )
)

DATASETS.register("breakout-objects")(
    DataSource(
        kind="detection",
        summary="400 + 100 frames 160x144 of Breakout: ball, paddle and each brick by the game's memory, 5 classes",
        licence="ours, played by a program",
        source="https://arxiv.org/abs/2306.08649",
        shape=(3, 160, 144),
        masks=True,
        examples=360,
        load=partial(readers.registered, name="breakout-objects"),
    )
)

DATASETS.register("bccd")(
    DataSource(
        kind="detection",
        summary="blood cells: 292 + 72 images, resized to 320x240, with 4,886 boxes of 3 classes",
        licence="MIT",
        source="https://github.com/Shenggan/BCCD_Dataset",
        shape=(3, 240, 320),
        examples=263,
        load=partial(blood_cells, archive="bccd.tar", shape=(3, 240, 320)),
        files=(File("bccd.tar", 9_379_840, "bd226038b63fd4edad03ad456574c1d8479432bd40e09c12c111d564a7c13c3c"),),
    )
)

_ENJA = "https://raw.githubusercontent.com/odashi/small_parallel_enja/master/"

DATASETS.register("small_parallel_enja")(
    DataSource(
        kind="pairs",
        summary="50,000 + 500 + 500 pairs of short Japanese and English sentences, cut into words",
        licence="Tanaka corpus, CC BY 2.0 FR",
        source="https://github.com/odashi/small_parallel_enja",
        examples=50_000,
        corpus=corpora.enja,
        tokens="words",
        files=tuple(
            File(name, size, digest, _ENJA + name)
            for name, size, digest in (
                ("train.en", 1_701_356, "148b05dcd28638fe20ee84f2b1127001c80982be352007dda241fb759adadc76"),
                ("train.ja", 2_784_447, "fc81a1434349ec98a449d7ae9cd2530057f689637684ecfed3501ea6a8a07ecc"),
                ("train.en.vocab.4k", 30_025, "afaf88e38434392981dbc2f0be1d7b9ab91caf5199e13f759b72ab5f423c8548"),
                ("train.ja.vocab.4k", 31_009, "07222c9b4682b90c674554556183cc8d8eb61897f4f62c0bedd6c26c665a947e"),
                ("train.en.vocab.all", 51_162, "aab7c63156220e227e70f83c7e324f92cdbfbda2133204c9cc0970a5ea1763af"),
                ("train.ja.vocab.all", 73_669, "a296d3bf32a13151ff2b9799cf26ecdb9d6028b32f01cc7824a7090ff5674894"),
                ("dev.en", 17_054, "04a2673449770657fd5e3b963cb856be3130923212b6db8ac7eaeef18f06c041"),
                ("dev.ja", 27_781, "cd534f56b8639dc130f86a365e5ec0aa70042000bdd740a622fbbf8b6be4acca"),
                ("test.en", 17_301, "45edb380749ec2b49cca7618fc5a7595fc9f791180672ba466b90c873a4aa8bf"),
                ("test.ja", 27_793, "d37dc460a81b064e4106c8913eb11fa300da05cf3f58a7a5bbfec7e20947ddef"),
            )
        ),
    )
)

DATASETS.register("tinyshakespeare")(
    DataSource(
        kind="text",
        summary="1.1 MB of Shakespeare; test is the last 111,540 characters",
        licence="public domain",
        source="https://github.com/karpathy/char-rnn",
        examples=3_528,
        corpus=corpora.shakespeare,
        files=(
            File(
                "input.txt",
                1_115_394,
                "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
                "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
            ),
        ),
    )
)

DATASETS.register("wagahai")(
    DataSource(
        kind="text",
        summary="吾輩は猫である (I Am a Cat) by Natsume Soseki, 320,000 characters without readings and notes",
        licence="public domain",
        source="https://www.aozora.gr.jp/cards/000148/card789.html",
        examples=1_000,
        corpus=partial(corpora.aozora, file="wagahaiwa_nekodearu.txt"),
        files=(
            File(
                "wagahaiwa_nekodearu.txt",
                1_120_576,
                "c2f778906046fd19ee7be2525fc32d1e1bff806d013ee80798894054f3be2c26",
            ),
        ),
    )
)

_WIKITEXT = "https://raw.githubusercontent.com/pytorch/examples/main/word_language_model/data/wikitext-2/"

DATASETS.register("wikitext2")(
    DataSource(
        kind="text",
        summary="WikiText-2 without its training part: 1.1 MB, published for validation, and 1.3 MB test",
        licence="CC BY-SA 3.0",
        source="https://huggingface.co/datasets/Salesforce/wikitext",
        examples=770,
        corpus=corpora.wikitext,
        tokens="words",
        files=(
            File(
                "valid.txt",
                1_121_681,
                "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
                _WIKITEXT + "valid.txt",
            ),
            File(
                "test.txt",
                1_256_449,
                "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
                _WIKITEXT + "test.txt",
            ),
        ),
        folder="wikitext2_valid_test",
    )
)

DATASETS.register("sgd_dialogues")(
    DataSource(
        kind="dialogues",
        summary="schema-guided dialogues: 5,110 + 964 + 1,024 of many turns",
        licence="CC BY-SA 4.0",
        source="https://github.com/google-research-datasets/dstc8-schema-guided-dialogue",
        examples=4_599,
        make=dialogues.sgd,
        files=(
            File("train.jsonl.xz", 693_372, "fae01c59bde2695cd70d56b5d84730319cefb38c3fa7800f2e39b1fea8f7cfbc"),
            File("dev.jsonl.xz", 159_092, "d2498c5f4c4f08359c517ef42c002ff60245b3b1f7002b66af115a83518ce89b"),
            File("test.jsonl.xz", 141_728, "2e898e60cd826d08f99fc7e9966aad0b70cc3fd1f1dbd976d46f6375056a0d72"),
        ),
    )
)

DATASETS.register("sentence_polarity")(
    DataSource(
        kind="labelled text",
        summary="10,662 sentences of film reviews, positive or negative",
        licence="CC BY 4.0",
        source="http://www.cs.cornell.edu/people/pabo/movie-review-data/",
        examples=7_464,
        corpus=partial(corpora.sentence_polarity, archive="sentence_polarity.zip"),
        tokens="words",
        files=(
            File(
                "sentence_polarity.zip",
                490_256,
                "6e1ed4405b65c7eabf1d199a7f7c437091ac21da0ea7467b410a74062574566b",
                "https://raw.githubusercontent.com/nltk/nltk_data/gh-pages/packages/corpora/sentence_polarity.zip",
            ),
        ),
    )
)

_GO9X9 = (File("games.tar.xz", 1_078_220, "9d7f3f56bb44bfdb520330bc945c6f1fee65dfd089af9f23495c611696b64080"),)

DATASETS.register("go9x9")(
    DataSource(
        kind="games",
        summary="9,068 games of Go on 9x9 by strong programs and online players, as SGF",
        licence="repository MIT, games by third parties",
        source="https://github.com/michaelnny/alpha_zero",
        files=_GO9X9,
    )
)

DATASETS.register("go_moves")(
    DataSource(
        kind="images",
        summary="the next move in 69,641 positions of go9x9's games: 16 planes 9x9, 82 classes",
        licence="repository MIT, games by third parties",
        source="https://github.com/michaelnny/alpha_zero",
        load=partial(readers.registered, name="go-next-moves"),
        files=_GO9X9,
        examples=56_000,
        folder="go9x9",
        shape=(16, 9, 9),
    )
)

_SKLEARN = "https://scikit-learn.org/stable/datasets/toy_dataset.html"

for _name, _kind, _examples, _summary in (
    ("digits", "images", 1_258, "handwritten digits: 1,797 grey images 8x8, 10 classes"),
    ("iris", "table", 105, "150 flowers, 4 measures, 3 classes"),
    ("wine", "table", 125, "178 wines, 13 measures, 3 classes"),
    ("breast_cancer", "table", 398, "569 tumours, 30 measures, 2 classes"),
    ("diabetes", "table", 309, "442 patients, 10 measures; regression of the disease's progress after a year"),
):
    DATASETS.register(_name)(
        DataSource(
            kind=_kind,
            examples=_examples,
            summary=_summary,
            licence="CC BY 4.0 (UCI)" if _name != "diabetes" else "none stated (Efron et al. 2004)",
            source=_SKLEARN,
            load=partial(readers.from_sklearn, name=_name),
            shape=(1, 8, 8) if _kind == "images" else (),
        )
    )

for _name, _summary, _paper in (
    ("gaussians-8", "20,000 points of 8 Gaussians on a ring, for generators", "https://arxiv.org/abs/1611.02163"),
    ("gaussians-25", "20,000 points of 25 Gaussians on a grid, for generators", "https://arxiv.org/abs/1705.07761"),
):
    DATASETS.register(_name)(
        DataSource(
            kind="table",
            examples=17_000,
            summary=_summary,
            licence="ours, drawn by a program",
            source=_paper,
            load=partial(synthetic.gaussians, name=_name),
        )
    )

DATASETS.register("tones")(
    DataSource(
        kind="waves",
        summary="240 tones of 0.04 to 0.08 s by a rule: the pitch stays, rises, falls or beats, and is high or low",
        licence="ours, drawn by a program",
        source="https://arxiv.org/abs/1609.03499",
        examples=168,
        load=sound.tones,
    )
)

DATASETS.register("shakespeare-small")(
    DataSource(
        kind="text",
        summary="100,000 characters of Shakespeare, which the package brings: the beginning of tinyshakespeare",
        licence="public domain",
        source="https://github.com/karpathy/char-rnn",
        examples=316,
        corpus=corpora.shakespeare_small,
    )
)

for _name, _kind, _examples, _tokens, _corpus, _source, _summary in (
    ("rule-pairs", "pairs", 1_400, "words", rules.rule_pairs, "https://en.wikipedia.org/wiki/Context-free_grammar",
     "2,000 Japanese sentences with their English translation, by a grammar of our own"),
    ("dates", "pairs", 1_400, "characters", rules.dates, "https://arxiv.org/abs/1409.0473",
     "2,000 dates as people write them, and as ISO 8601 does"),
    ("reversal", "pairs", 1_400, "characters", rules.reversal, "https://arxiv.org/abs/1409.3215",
     "2,000 strings of 4 to 12 letters, and the same backwards"),
    ("binary-addition", "labelled steps", 11_468, "", rules.binary_addition, "https://arxiv.org/abs/1410.4615",
     "all sums of two numbers below 128, the lowest bit first: 8 steps of 2 bits; longer: 16 steps"),
    ("anbn", "labelled steps", 1_400, "", rules.anbn, "https://doi.org/10.1109/72.963769",
     "a^n b^n, n up to 50: the next symbol where it is certain; longer: n = 51 to 100"),
    ("anbncn", "labelled steps", 1_400, "", rules.anbncn, "https://doi.org/10.1109/72.963769",
     "a^n b^n c^n, n up to 50: the next symbol where it is certain; longer: n = 51 to 100"),
    ("dyck1", "labelled steps", 1_400, "", rules.dyck1, "https://arxiv.org/abs/1911.03329",
     "brackets of up to 50 symbols: whether one is open; longer: 52 to 100"),
    ("copy", "labelled steps", 3_500, "", rules.copy, "https://arxiv.org/abs/1511.06464",
     "10 symbols of 8 kinds, to be said again after 20 steps; longer: after 60"),
):  # fmt: skip
    DATASETS.register(_name)(
        DataSource(_kind, _summary, "Apache-2.0", _source, examples=_examples, corpus=_corpus, tokens=_tokens)
    )

DATASETS.register("delayed-recall")(
    DataSource(
        kind="series",
        summary="3,000 series of 21 steps: which of 4 symbols stood at the first step, under noise",
        licence="Apache-2.0",
        source="https://doi.org/10.1162/neco.1997.9.8.1735",
        examples=2_100,
        load=rules.delayed_recall,
    )
)

DATASETS.register("rule-dialogues")(
    DataSource(
        kind="dialogues",
        summary="600 bookings by two sides in 12 turns, made by a rule: what is answered depends on what was said",
        licence="Apache-2.0",
        source="https://arxiv.org/abs/1507.04808",
        examples=420,
        make=dialogues.by_rule,
    )
)
