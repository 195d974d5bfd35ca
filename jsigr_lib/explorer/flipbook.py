"""Pictures that a reader leafs through with a slider: no kernel, and without scripts the first of them."""

import base64
import json
from collections.abc import Sequence
from html import escape

SCRIPT = """const pages = %s;
for (const book of document.querySelectorAll(".jsigr-flipbook[data-book='%s']:not([data-open])")) {
  const [picture, slider, caption] = ["img", "input", "figcaption"].map((name) => book.querySelector(name));
  book.dataset.open = "";
  slider.hidden = false;
  slider.addEventListener("input", () => {
    const [source, said] = pages[slider.value];
    Object.assign(picture, {src: source, alt: said});
    caption.textContent = said;
    slider.setAttribute("aria-valuetext", said);
  });
}"""


def html(name: str, pages: Sequence[tuple[bytes, str]], *, label: str) -> str:
    """A fragment of a page.

    Args:
        name: of the book, another one for each in a notebook.
        pages: of each, a picture as PNG and what it shows in words, which is its caption and its alternative text.
        label: what the slider chooses, such as "image".
    """
    both = [(f"data:image/png;base64,{base64.b64encode(png).decode()}", said) for png, said in pages]
    (source, said), script = both[0], SCRIPT % (json.dumps(both).replace("<", "\\u003c"), name)
    return f"""<figure class="jsigr-flipbook" data-book="{escape(name)}">
<img alt="{escape(said)}" src="{source}" style="max-width: 100%">
<input type="range" hidden min="0" max="{len(both) - 1}" value="0" aria-label="{escape(label)}" style="width: 20em">
<figcaption>{escape(said)}</figcaption>
</figure>
<script type="module">
{script}
</script>"""
