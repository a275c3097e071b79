from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merging.publish.markup import LONGEST, code, fenced, heading, listed, visible, xml
from tests.publish.toys import HOSTILE

markdown = pytest.importorskip("markdown_it", reason="comes with rich")
ANY = st.one_of(st.text(), st.sampled_from(HOSTILE), st.text(alphabet="`|\\<>[]()!*_~#&\n a", max_size=40))


def pieces(text):
    """The types of all tokens, inner ones included, with the text of each."""
    found = []
    for token in markdown.MarkdownIt("commonmark").enable("table").parse(text):
        found += [(inner.type, inner.content) for inner in token.children or [token]]
    return found


@given(ANY)
def test_a_name_in_a_table_stays_one_code_span_of_one_cell(name):
    rows = pieces(f"| a | b |\n| --- | --- |\n| {code(name)} | end |")
    kinds = [kind for kind, _ in rows]
    assert kinds.count("code_inline") == 1
    assert [text for kind, text in rows if kind == "text"] == ["a", "b", "end"]
    assert not {"html_inline", "html_block", "link_open", "image"} & set(kinds)


@given(ANY)
def test_a_fence_holds_all_of_its_text(text):
    rows = pieces("before\n\n" + fenced(text.replace("\r", "\n"), "yaml") + "\n\nafter")
    assert [kind for kind, _ in rows if kind in ("fence", "html_block", "html_inline")] == ["fence"]
    assert rows[-1][0] == "paragraph_close" and ("text", "after") in rows


@given(ANY)
def test_a_heading_is_one_line_without_markup(text):
    kinds = {kind for kind, _ in pieces(f"# {heading(text)}")}
    assert kinds <= {"heading_open", "heading_close", "text", "code_inline"}


@given(ANY)
def test_text_of_xml_reads_back_as_what_is_visible(text):
    parsed = ElementTree.fromstring(f'<a b="{xml(text)}">{xml(text)}</a>')
    assert (parsed.text or "") == parsed.attrib["b"] == visible(text)


@given(ANY)
def test_what_is_visible_is_one_short_line_that_can_be_written(text):
    seen = visible(text)
    assert len(seen) <= LONGEST and not re.search(r"[\x00-\x1f\u2028\u202a-\u202e]", seen)
    seen.encode()


def test_lists_read_as_sentences_do():
    assert [listed(["a", "b", "c"][:n]) for n in range(4)] == ["", "a", "a and b", "a, b and c"]
