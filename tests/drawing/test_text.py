from __future__ import annotations

import pytest

from fpdm.drawing.text import fenced, listing, markdown, plain, shortened, slug


def test_lists_in_words() -> None:
    assert [listing(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]


def test_shortened_names_keep_both_ends() -> None:
    assert shortened("short", 10) == "short"
    assert shortened("runs/first/model-a", 11) == "runs/…del-a"
    assert len(shortened("a" * 300, 48)) == 48


@pytest.mark.parametrize(
    ("text", "name"), [("Second-Order: 5 steps", "second-order-5-steps"), ("../../etc", "etc"), ("名前", "untitled")]
)
def test_slugs_are_safe_as_file_names(text: str, name: str) -> None:
    assert slug(text) == name
    assert len(slug(text * 50)) <= 60


def test_dollars_are_no_mathematics() -> None:
    assert plain("$x$") == r"\$x\$"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("<script>alert(1)</script>", r"\<script>alert(1)\</script>"),
        ("a|b", r"a\|b"),
        ("a\n# b", r"a\\n# b"),
        ("[a](javascript:b) ![a](b)", r"[a\](javascript:b) ![a\](b)"),
        ("`a` **b** _c_ ~d~ $e$", r"\`a\` \*\*b\*\* \_c\_ \~d\~ \$e\$"),
        ("\x1b[31m", r"\\x1b[31m"),
        ("fpdm-digits of my_runs, in [-1, 1]", "fpdm-digits of my_runs, in [-1, 1]"),
    ],
)
def test_a_name_is_no_markup(name: str, text: str) -> None:
    assert markdown(name) == text


def test_a_name_is_read_by_markdown_as_it_is() -> None:
    parser = pytest.importorskip("markdown_it").MarkdownIt()  # comes with rich
    for name in (
        "<b>a</b> & [a](b) ![c](d)",
        "`a` **b** _c_ __d__ <!-- e -->",
        r"a\b \\< <a href=b>",
        "<?php ?> <https://a.b>",
    ):
        (_, inline, _) = parser.parse(f"# {markdown(name)}")
        assert {child.type for child in inline.children} == {"text"}
        assert "".join(child.content for child in inline.children) == name


@pytest.mark.parametrize("text", ["fpdm train", "a\n```\nb", "a ```` b", "````\n<script>\n```"])
def test_no_text_ends_its_code_block(text: str) -> None:
    parser = pytest.importorskip("markdown_it").MarkdownIt()
    (token,) = parser.parse(fenced(text, "sh"))
    assert (token.type, token.info, token.content) == ("fence", "sh", f"{text}\n")


def test_a_code_block_has_nothing_for_a_terminal() -> None:
    assert fenced("a\x1b[31m\nb", "sh") == "```sh\na\\x1b[31m\nb\n```"
