"""Extractors of the widened corpora on small made-up files. Nothing is downloaded."""

import gzip
import json
import struct
import zlib

import pytest

from specialm.data.corpora import games, manuals, pages, references
from specialm.data.documents import Document


def texts(documents):
    return [document.text for document in documents]


# ---- HTML ----------------------------------------------------------------------------------------

PAGE = """<!DOCTYPE html><html><head><title>The title of the page is not a text</title></head><body>
<nav><ul><li>The way to the other pages is in this list of them</li></ul></nav>
<div class="body"><h2>3.1. Of cats<a class="headerlink" href="#x">¶</a></h2>
<p>A <b>cat</b> is an animal &amp; it
   has a tail,<br>which is <i>long</i>.</p>
<pre>int the = of(a, to, is, and, in, for, be);</pre>
<h2>Empty</h2>
<table><tr><td>12.5</td><td>Whether the cell of a table is text that has words is seen</td></tr></table>
<p>f(x, y) = a + b ** 2</p><p>For example the following is the call of it:</p>
<div role="navigation"><div><p>This is the menu of the page and of all its parts.</p></div></div>
<p>What follows the menu is a part of the text of the page again.
<p>A paragraph that is never closed is a paragraph in the text of the page.
</div><footer>The footer of a page is not the text of the page.</footer></body></html>"""

BLOCKS = [
    "Of cats",
    "A cat is an animal & it has a tail, which is long.",
    "Empty",
    "Whether the cell of a table is text that has words is seen",
    "What follows the menu is a part of the text of the page again.",
    "A paragraph that is never closed is a paragraph in the text of the page.",
]


def test_html_keeps_sentences_and_their_headings():
    assert list(pages.html_prose(PAGE)) == BLOCKS


def test_a_head_that_is_never_closed_ends_at_the_title():
    text = "This is the text that follows the title of the page."
    html = f'<div class="main header"><p>The menu is not in the text of it.<h1>A</h1><p>{text}'
    assert list(pages.html_prose(html)) == ["A", text]


def page(text):
    return f"<html><body><p>{text}</p></body></html>".encode()


LONG = " ".join(
    f"This is sentence {n} of the long text of a page that is a group." for n in range(30)
)


def test_html_pages_are_groups_and_repeat_no_block():
    again = page(f"{LONG[:-1]} again.</p><p>{LONG}")
    found = list(pages.html_pages([("a/one.html", page(LONG)), ("a/two.xhtml", again)]))
    assert found == [
        Document("a/one/000", LONG, "a/one"),
        Document("a/two/000", f"{LONG[:-1]} again.", "a/two"),
    ]


def test_short_html_pages_of_a_folder_are_joined():
    files = [
        ("a/1.html", page("This is the first of the short pages.")),
        ("a/2.html", page("This is the second of the short pages.")),
        ("a/3.html", page("No.")),
        ("b/1.html", page("This is in the other folder of the two.")),
        ("b/2.html", page(LONG)),
        ("b/3.html", page("This is after the long page of them all.")),
    ]
    assert [(document.group, document.text) for document in pages.html_pages(files)] == [
        ("a/1", "This is the first of the short pages.\n\nThis is the second of the short pages."),
        ("b/1", "This is in the other folder of the two."),
        ("b/2", LONG),
        ("b/3", "This is after the long page of them all."),
    ]


@pytest.mark.parametrize(
    ("text", "prose"),
    [
        ("This is a sentence of words that is kept.", True),
        ("Home | Up | Next | Previous | Contents | Index", False),
        ("It is too short.", False),
        ("这是中文 the of a to is and in for be 这是中文这是中文这是中文这是中文这是中文", False),
        (r"The sum \sum_i of \alpha is the value of it all", False),
    ],
)
def test_is_prose(text, prose):
    assert pages.is_prose(text) == prose


# ---- Manuals -------------------------------------------------------------------------------------

MAN = r"""'\" t
.\" A comment of the page.
.TH OPEN 2 2020-01-01 Linux
.SH NAME
open \- open the file of a name that is in the path of it
.SH DESCRIPTION
The
.BR open ()
call opens the file in
.IR pathname ,
and returns a \fIfile descriptor\fP \(em a number\-like thing. \" said
.PP
.nf
int the_code_of_a_call(to, be, left, out);
.fi
.TP
.B O_APPEND
The file is opened in the "append" mode of it, as is
.B the
rule.
.SH SEE ALSO
This is the list of the pages that are to be seen, too.
"""

MDOC = r""".Dd May 1
.Dt LS 1
.Sh DESCRIPTION
For each operand that names a
.Ar file
of a type other than directory,
.Nm ls
displays its name with the
.Fl l
option (see
.Xr chmod 1 ) .
.Bd -literal
the code of a page is not in the text of it
.Ed
.Bl -tag
.It Fl a
Include the directory entries of
.Pq all the
names that
.Fn stat "2"
finds in
.Fx 12 .
.El
"""


def test_man_paragraphs():
    found = list(filter(pages.is_prose, manuals.man_paragraphs(MAN)))
    assert found == [
        "The open() call opens the file in pathname, and returns a file descriptor — a "
        "number-like thing.",
        'O_APPEND The file is opened in the "append" mode of it, as is the rule.',
    ]


def test_mdoc_paragraphs():
    found = list(filter(pages.is_prose, manuals.man_paragraphs(MDOC)))
    assert found == [
        "For each operand that names a file of a type other than directory, ls displays its name "
        "with the -l option (see chmod(1)).",
        "-a Include the directory entries of (all the) names that stat() 2 finds in FreeBSD 12.",
    ]


def test_man_pages_are_unpacked_and_groups():
    found = list(manuals.man_pages([("man2/open.2.gz", gzip.compress(MAN.encode()))]))
    assert [document.group for document in found] == ["man2/open.2"]


POD = """=head1 The I<first> part

This is C<code>, a L<link|perlop/"x"> to L<perlnumber>, and E<lt>bE<gt> of I<< << it >>.

    the verbatim text is not a part of the text

=begin comment

The comment of the text is not a part of it.

=end comment

=over 4

=item This is an item that is a sentence of the text.

=head1 Only a heading

=cut

sub the_code_of_a_file_is_not_in_the_text { to be }

=head1 The last part

This is the text that follows the code of it, see L</The first
part>.
"""


def test_pod_prose():
    assert list(manuals.pod_prose(POD)) == [
        "The first part",
        "This is code, a link to perlnumber, and <b> of << it.",
        "This is an item that is a sentence of the text.",
        "The last part",
        "This is the text that follows the code of it, see The first part.",
    ]


def test_typescript_comments():
    code = """
  /**
   * Stops the instance that is named &amp; all of its parts, as it was to be.
   */
  stop(callback?: () => void): void;
  /** Short. */
  /**
   * Stops the instance that is named &amp; all of its parts, as it was to be.
   */
"""
    (found,) = manuals.typescript_comments([("clients/ec2.d.ts", code.encode())])
    text = "Stops the instance that is named & all of its parts, as it was to be."
    assert found == Document("clients/ec2/000", text, "clients/ec2")


# ---- Reference works -----------------------------------------------------------------------------


def number(value):
    digits = ""
    while value or not digits:
        digits, value = references.DIGITS[value % 64] + digits, value // 64
    return digits


def test_dictionary_reads_entries_once_in_the_order_of_the_text():
    entries = [
        "Cat \\Cat\\, n. [AS.]\n   An animal with a {tail}, and with long ears.\n   [1913 Webster]\n",
        "00-database-short\n   The name of the dictionary, which is not an entry.\n",
        "Dog, n. An animal that barks , and bites when it is asked to.\n",
        "Owl, n. A bird.\n",
    ]
    starts = [sum(map(len, entries[:place])) for place in range(len(entries))]
    words = ["cat", "00-database-short", "dog", "owl"]
    lines = [
        f"{word}\t{number(start)}\t{number(len(entry))}"
        for word, start, entry in zip(words, starts, entries, strict=True)
    ]
    lines.insert(0, lines[0].replace("cat\t", "beast\t"))  # another word for the same entry
    files = [
        ("usr/share/dictd/d.dict.dz", gzip.compress("".join(entries).encode())),
        ("usr/share/dictd/d.index", "\n".join(reversed(lines)).encode()),
    ]
    assert texts(references.dictionary(files, references.GCIDE_MARKS)) == [
        "Cat, n. [AS.] An animal with a tail, and with long ears.\n"
        "Dog, n. An animal that barks, and bites when it is asked to."
    ]


@pytest.mark.parametrize("verse", ["<IIH", "<III"])
def test_sword(verse):
    old = [b"<w>In the</w> beginning<note>n</note>.", b"And then<br/>it was."]
    blocks = [old[0] + old[1], b"A new book , said he."]
    packed = [zlib.compress(block) for block in blocks]
    starts = [0, len(packed[0])]
    index = b"".join(
        struct.pack("<III", start, len(pack), len(block))
        for start, pack, block in zip(starts, packed, blocks, strict=True)
    )
    places = [(0, 0, 0), (0, 0, len(old[0])), (0, len(old[0]), len(old[1]))]
    places += [places[-1], (1, 0, len(blocks[1]))]
    verses = b"".join(struct.pack(verse, *place) for place in places)
    files = [("m/ot.bzs", index), ("m/ot.bzv", verses), ("m/ot.bzz", b"".join(packed))]
    files += [(f"m/nt.bz{letter}", b"") for letter in "svz"]
    assert list(references.sword(files, verse)) == [
        Document("ot-0000/000", "In the beginning.\nAnd then\nit was.", "ot-0000"),
        Document("ot-0001/000", "A new book, said he.", "ot-0001"),
    ]


def test_metamath():
    database = """
  $( #*#*# $)
  $( $t htmldef "a" as the b of the c; $)
  $( The ` union ` of a set is a _set_, see ~ uniex and [Quine] p. 4.  (Contributed by NM,
     30-Jan-2004.)  (Proof shortened by A (B), 1-Jan-2005.) $)
  ax $p |- A $= x $.
  $( Too short. $)
"""
    (found,) = references.metamath([("db/set.mm", database.encode())])
    assert found.text == "The union of a set is a set, see uniex and Quine p. 4."
    assert (found.id, found.group) == ("set/0000", "set/0000")


# ---- Games ---------------------------------------------------------------------------------------


def test_wesnoth():
    scenario = (
        'name= _ "The Ford"\n[message]\n speaker=narrator\n message= _ "He said ""no"", <i>and</i>\n'
        'left." + _"They went on to it."\n[/message]\nid="not a line of it"\n'
    )
    (found,) = games.wesnoth([("c/Heir/scenarios/01_Ford.cfg", scenario.encode())])
    assert found == Document(
        "Heir/01_Ford/000", 'He said "no", and left.\nThey went on to it.', "Heir/01_Ford"
    )


def test_endless_sky():
    missions = (
        'mission "One"\n\tdescription "not this"\n\t\t`Hello to <first>, and <planet> .`\n'
        '\t\tchoice\n\t\t\t`\t"No, not now."`\nmission "Two"\n\t`Hello to you again.`\n'
    )
    found = list(games.endless_sky([("data/free worlds.txt", missions.encode())]))
    assert [(document.group, document.text) for document in found] == [
        ("free-worlds/001", 'Hello to first, and planet .\n"No, not now."'),
        ("free-worlds/002", "Hello to you again."),
    ]


def test_cataclysm():
    entries = [
        {
            "type": "talk_topic",
            "id": "not a line of it",
            "dynamic_line": {
                "npc_male": True,
                "yes": "Are you well, <name_g>?",
                "no": ["Not a man?"],
            },
            "responses": [{"text": "I am very well.", "topic": "not a topic here"}],
        },
        {"type": "npc", "text": "not said by anyone"},
    ]
    content = json.dumps(entries).encode()
    (found,) = games.cataclysm_talk([("npcs/A.json", content), ("npcs/B.json", b"// no JSON")])
    assert found.text == "Are you well, name_g?\nNot a man?\nI am very well."
    thing = [{"description": {"str": "It is a thing of the <color_red>world</color>, and is old."}}]
    (found,) = games.cataclysm_descriptions([("items/x.json", json.dumps(thing).encode())])
    assert found.text == "It is a thing of the world, and is old."


def test_crawl():
    text = (
        "%%%%\n# a comment\nA cat\n\nIt is an animal that is in\nthe dungeon with you.\n%%%%\n"
        "_code_\n\n{{ return the_code_of_it_is_not_a_text_to_be }}\n%%%%\n"
    )
    (found,) = games.crawl([("descript/monsters.txt", text.encode())])
    assert found.text == "A cat\nIt is an animal that is in the dungeon with you."
