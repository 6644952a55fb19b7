"""A document of each kind, made with the libraries that make them: each says one fact that nothing else says."""

from __future__ import annotations

import io
import itertools
import json
import zipfile
import zlib

FACTS = {
    "prices.pdf": "Rocket 99.25",
    "harbour.docx": "The budget of the harbour is 4,200 crowns.",
    "colours.pptx": "The colour of the second team is teal.",
    "stock.xlsx": "| x2 | A rocket of tin | 99.5 |",
    "shop.html": "We open at nine.",
    "novel.epub": "The fox lives under the mill.",
    "ferry.rtf": "The ferry leaves at noon, naïve.",
    "invoice.eml": "The invoice is 77 Euro, schön.",
    "club.mbox": "The club meets in the cellar.",
    "study.ipynb": "answer: 42",
    "code.py": "def double(x):",
    "notes.md": "# Notes on otters",
    "letter.odt": "The letter was sent on Friday.",
}
"""What stands in the text of each."""
UNREADABLE = {
    "broken.pdf": "is a broken PDF file",
    "cut.pdf": "is a broken PDF file",
    "locked.pdf": "is protected by a password",
    "scan.pdf": "is a scan or pictures: its 2 pages hold no text",
    "inflating.pdf": "of memory, or is broken",
    "bomb.docx": "unpacks to 1.1 GB, which no document does (a decompression bomb?); leave it out, or save its text anew",
    "entities.docx": "is a broken document (Maximum entity amplification factor exceeded); open it and save it anew",
    "cut.docx": "is a broken ZIP or Office file",
    "locked.xlsx": "is protected by a password",
    "old.doc": "is an old Word file (.doc); save it as .docx",
    "plain.zip": "is a ZIP file, and no document; unpack it first",
    "empty.docx": "is a broken document (a part of it is missing); open it and save it anew",
    "broken.ipynb": "is a broken notebook",
    "cut.epub": "is a broken",
    "zeros.xls": "is an old Office file, and no workbook",
}
"""Why each cannot be read."""


def pdf(pages, **encryption):
    """A PDF with a page for each text; a list is a table, and nothing a picture."""
    from fpdf import FPDF

    document = FPDF()
    document.set_font("helvetica", size=12)
    for page in pages:
        document.add_page()
        if isinstance(page, list):
            with document.table() as table:
                for cells in page:
                    table.row(cells)
        elif page:
            document.multi_cell(0, 8, page)
        else:
            document.rect(10, 10, 50, 50, style="F")
    if encryption:
        document.set_encryption(**encryption)
    return bytes(document.output())


def docx():
    import docx

    document = docx.Document()
    document.add_heading("Report", 1)
    document.add_paragraph(FACTS["harbour.docx"])
    table = document.add_table(2, 2)
    for place, text in enumerate(("Ship", "Tons", "Ilse", "310")):
        table.cell(place // 2, place % 2).text = text
    document.add_page_break()
    document.add_paragraph("On the second page stands the lighthouse.")
    return saved(document)


def pptx():
    import pptx

    presentation = pptx.Presentation()
    for text in ("The first team is red.", FACTS["colours.pptx"]):
        slide = presentation.slides.add_slide(presentation.slide_layouts[1])
        slide.shapes.title.text = "Teams"
        slide.placeholders[1].text = text
    slide.notes_slide.notes_text_frame.text = "Say it slowly."
    return saved(presentation)


def xlsx(**sheets):
    """A workbook with these sheets, each a list of rows."""
    import xlsxwriter

    stream = io.BytesIO()
    with xlsxwriter.Workbook(stream, {"default_date_format": "yyyy-mm-dd"}) as workbook:
        for name, rows in sheets.items():
            sheet = workbook.add_worksheet(name)
            for number, row in enumerate(rows):
                sheet.write_row(number, 0, row)
    return stream.getvalue()


def archive(files, kind=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", kind) as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    return stream.getvalue()


def saved(document):
    stream = io.BytesIO()
    document.save(stream)
    return stream.getvalue()


def replaced(data, name, content):
    """The same archive with another file of this name."""
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        files = {entry: packed.read(entry) for entry in packed.namelist()}
    return archive(files | {name: content})


EPUB = {
    "mimetype": "application/epub+zip",
    "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OEBPS/book.opf"/></rootfiles></container>',
    "OEBPS/book.opf": '<package xmlns="http://www.idpf.org/2007/opf"><manifest><item id="a" href="a.xhtml"/>'
    '<item id="b" href="text/b%20b.xhtml"/></manifest><spine><itemref idref="b"/><itemref idref="a"/></spine></package>',
    "OEBPS/a.xhtml": "<html><body><p>The end.</p></body></html>",
    "OEBPS/text/b b.xhtml": f"<html><body><p>{FACTS['novel.epub']}</p></body></html>",
}
ODT = {
    "mimetype": "application/vnd.oasis.opendocument.text",
    "content.xml": '<office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"><office:body><office:text><text:h>Post</text:h>'
    f"<text:p>{FACTS['letter.odt']}</text:p></office:text></office:body></office:document-content>",
}
HTML = (
    "<html><head><title>Shop</title><script>var secret = 1</script></head><body><h1>Hours</h1><p>We open at <b>nine</b>.</p>"
    "<ul><li>Mon</li><li>Tue</li></ul><table><tr><th>Day</th><th>Hour</th></tr><tr><td>Mon</td><td>9</td></tr></table></body></html>"
)
EML = (
    b"From: a@example.org\r\nTo: b@example.org\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n\r\nThe invoice is 77 Euro, sch\xf6n.\r\n"
)
MBOX = (
    b"From a@example.org Mon Jan  1 00:00:00 2024\nFrom: a@example.org\nSubject: one\n\nFirst mail.\n\n"
    b"From c@example.org Tue Jan  2 00:00:00 2024\nFrom: c@example.org\nSubject: two\n\nThe club meets in the cellar.\n>From here.\n"
)
NOTEBOOK = {
    "cells": [
        {"cell_type": "markdown", "source": ["# Study"]},
        {
            "cell_type": "code",
            "source": "print('answer:', 42)",
            "outputs": [{"output_type": "stream", "text": ["answer: 42\n"]}],
        },
    ],
    "metadata": {},
}


def entities():
    """A document whose one word would be 10^10 characters."""
    names = "abcdefghi"
    declared = '<!ENTITY a "' + "x" * 100 + '">'
    declared += "".join(f'<!ENTITY {to} "{f"&{of};" * 20}">' for of, to in itertools.pairwise(names))
    return (
        f"<!DOCTYPE x [{declared}]>"
        '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body><w:p><w:r>'
        "<w:t>&i;</w:t></w:r></w:p></w:body></w:document>"
    )


def inflating_pdf():
    """A PDF of 1.5 MB whose only page is 1.6 GB of blanks."""
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(b" " * 16_000_000) + packer.flush(
        zlib.Z_FULL_FLUSH
    )  # stands by itself, so it can be repeated
    packed = b"\x78\x9c" + block * 100 + packer.flush()
    objects = (
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 100 100]/Contents 4 0 R>>",
        b"<</Filter/FlateDecode/Length %d>>stream\n" % len(packed) + packed + b"\nendstream",
    )
    data, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(data))
        data += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    end = b"xref\n0 5\n0000000000 65535 f \n" + table + b"trailer<</Root 1 0 R/Size 5>>\nstartxref\n"
    return data + end + b"%d\n%%%%EOF" % len(data)


def bomb():
    """A DOCX that says itself that it unpacks to 1.1 GB."""
    size = 12_345_678
    data = archive({"word/document.xml": bytes(size)})
    return data.replace(size.to_bytes(4, "little"), (1_100_000_000).to_bytes(4, "little"))


def old_office(name):
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504) + name.encode("utf-16-le") + bytes(512)


def write_all(folder):
    """Write those that can be read into `good`, and those that cannot into `bad`."""
    prices = pdf(
        [
            "First page, about otters.",
            [["Name", "Price"], ["Anvil", "12.50"], ["Rocket", "99.25"]],
            "The keeper of the third page is Mrs Pell.",
        ]
    )
    good = {
        "prices.pdf": prices,
        "harbour.docx": docx(),
        "colours.pptx": pptx(),
        "stock.xlsx": xlsx(
            Stock=[["id", "text", "price"], ["x1", "An anvil of iron", 12], ["x2", "A rocket of tin", 99.5]]
        ),
        "shop.html": HTML.encode(),
        "novel.epub": archive(EPUB),
        "ferry.rtf": rb"{\rtf1\ansi{\fonttbl\f0 Arial;}\f0 The ferry leaves at {\b noon}, na\'efve.\par Next line}",
        "invoice.eml": EML,
        "club.mbox": MBOX,
        "study.ipynb": json.dumps(NOTEBOOK).encode(),
        "code.py": b"def double(x):\n    return 2 * x\n",
        "notes.md": b"# Notes on otters\n",
        "letter.odt": archive(ODT),
    }
    bad = {
        "broken.pdf": b"%PDF-1.4\n" + b"garbage" * 100,
        "cut.pdf": prices[:900],
        "locked.pdf": pdf(["secret"], owner_password="o", user_password="u"),
        "scan.pdf": pdf(["", ""]),
        "inflating.pdf": inflating_pdf(),
        "bomb.docx": bomb(),
        "entities.docx": replaced(good["harbour.docx"], "word/document.xml", entities()),
        "cut.docx": good["harbour.docx"][:5_000],
        "locked.xlsx": old_office("EncryptedPackage"),
        "old.doc": old_office("WordDocument"),
        "plain.zip": archive({"x.txt": "x"}),
        "empty.docx": archive({"word/document.xml": ""}),
        "broken.ipynb": b'{"cells": [{"cell_type"',
        "cut.epub": archive(EPUB)[:300],
        "zeros.xls": old_office(""),
    }
    for name, files in (("good", good), ("bad", bad)):
        (folder / name).mkdir()
        for file, data in files.items():
            (folder / name / file).write_bytes(data)
    return folder
