"""Markdown as HTML that a browser draws without a script: equations are MathML, made by latex2mathml."""

import re
from html import escape, unescape
from xml.etree.ElementTree import tostring

from latex2mathml.commands import MATRICES
from latex2mathml.converter import Converter
from nbconvert.filters.markdown_mistune import IPythonRenderer

from jsigr_lib.method.errors import InputError

TAG = r"\s*\[[^]]*\]$"  # such as [derived], at the end of a heading
NOTATION = {
    r"\\mathrm\{(\w+)\}": r"\\text{\1}",  # a word, not a product of upright letters
    r"\\(min|max|sup|inf|lim)_": r"\\\1\\limits_",
    r"\\iff(?![a-zA-Z])": r"\\;\\Longleftrightarrow\\;",
    r"\{aligned\}": "{align*}",
}
"""Pattern -> the same in LaTeX that latex2mathml sets well."""
CHILDREN = {"mfrac": 2, "msub": 2, "msup": 2, "munder": 2, "mover": 2, "mroot": 2, "msubsup": 3, "munderover": 3}


class Renderer(IPythonRenderer):
    """Renders the Markdown at `where`; HTML in it is text. Links to the notebooks `names` lead to their pages;
    `sections` collects the headings of the second level, each with its anchor."""

    def __init__(self, where: str, names: list[str]):
        super().__init__(escape=False)  # which would escape &amp; once more
        self.where, self.names = where, names
        self.sections: list[tuple[str, str]] = []

    def heading(self, text: str, level: int, **_) -> str:
        plain = unescape(re.sub(r"<.*?>", "", text))
        anchor = escape("-".join(plain.split()))  # as Jupyter makes them, so that links to sections hold
        if level == 2:
            self.sections.append((anchor, escape(re.sub(TAG, "", plain))))
        text = re.sub(TAG, r"<small>\g<0></small>", text)
        return f'<h{level} id="{anchor}">{text}</h{level}>\n'

    def inline_html(self, html: str) -> str:
        return escape(html)

    def block_html(self, html: str) -> str:
        return self.paragraph(escape(html.strip()))

    def paragraph(self, text: str) -> str:
        return f'<p class="point">{text}</p>\n' if text.startswith("<strong>") else super().paragraph(text)

    def link(self, text: str, url: str, title: str | None = None) -> str:
        path, hash_, anchor = url.partition("#")
        name = re.sub(r".*/|\.ipynb$", "", path)
        if path and not re.match(r"https?://|mailto:", path):
            if name not in self.names:
                return text  # a file that the site does not hold
            url = f"{name}.html{hash_}{anchor}"
        return super().link(text, url, title)

    def inline_math(self, body: str) -> str:
        return self._mathml(body, "inline")

    def block_math(self, body: str) -> str:
        # formulas beside each other go below each other on a phone
        parts = [body] if r"\begin" in body else re.split(r"(?<=,)\s*\\qquad\b", body)
        return f'<span class="equation" tabindex="0">{"".join(self._mathml(part, "block") for part in parts)}</span>'

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(rf"\begin{{{name}}}{body}\end{{{name}}}")

    def _mathml(self, latex: str, display: str) -> str:
        try:
            return mathml(latex, display)
        except ValueError as error:
            raise InputError(f"{self.where}: formula {latex.strip()!r} has {error}") from error


def mathml(latex: str, display: str = "inline") -> str:
    """The MathML of a formula. Raises ValueError for LaTeX that latex2mathml does not know and would pass on."""
    for pattern, known in NOTATION.items():
        latex = re.sub(pattern, known, latex)
    if unknown := [name for name in re.findall(r"\\begin\{(.*?)\}", latex) if f"\\{name}" not in MATRICES]:
        raise ValueError(f"an unknown environment {unknown[0]!r}; accepted: {', '.join(name[1:] for name in MATRICES)}")
    bare = re.sub(r"\\.", "", latex)
    if bare.count("{") != bare.count("}"):
        raise ValueError("unbalanced braces; accepted: as many { as }")
    try:
        root = Converter(display=display).convert_to_element(latex)
    except Exception as error:  # those of latex2mathml have no common class
        raise ValueError(f"a mistake ({type(error).__name__}); accepted: LaTeX that latex2mathml reads") from error
    for node in root.iter():
        node.text = unescape(node.text or "")
        if re.fullmatch(r"\\.+|&", node.text) or (node.tag == "mo" and not node.text and not node.get("fence")):
            raise ValueError(f"an unknown macro {node.text}; accepted: those that latex2mathml knows")
        if len(node) < CHILDREN.get(node.tag, 0):
            raise ValueError("a macro without its arguments; accepted: as many as it takes, each in braces")
        if node.tag == "mi" and re.fullmatch("[Α-Ω]", node.text):
            node.set("mathvariant", "normal")  # upright, as in LaTeX
        if node.tag == "mo" and node.text in ("|", "‖"):
            node.attrib |= {"lspace": "0", "rspace": "0"}  # else spaced like a binary operator
    return tostring(root, encoding="unicode")
