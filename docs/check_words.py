"""How long the sentences and the chapters are, and how many formulas a chapter has.

    python docs/check_words.py

On every page sentences have at most 20 words on average and none above 40; a chapter in docs/learn
has at most 900 words and 40 inline formulas. Code, formulas on lines of their own, tables, captions
of figures, and what is folded do not count; an inline formula is one word. Says what is over, and
then ends with status 1.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

WORDS, FORMULAS, MEAN, LONGEST = 900, 40, 20.0, 40
LEFT_OUT = re.compile(
    r"^(`{3,}|:{3,}).*?^\1\s*$|^\$\$.*?\$\$|<details.*?</details>|^\|.*?$|^<.*?>$|^\(.*\)=$",
    re.DOTALL | re.MULTILINE,
)
FORMULA = re.compile(r"(?<!\$)\$(?!\$)[^$]+\$(?!\$)", re.DOTALL)
ROLE = re.compile(r"\{[\w:-]+\}`([^`<]*)(?:<[^>]*>)?`")
#: A sentence ends with a stop before a space and what begins another, or with its paragraph.
END = re.compile(r"(?<=[.!?:])\s+(?=[\"“(]?[A-Z0-9*`$])|\n\s*\n|\n(?=[*#-] |\d+\. )")


def sentences(text: str) -> tuple[list[list[str]], int]:
    """The words of each sentence, and the number of inline formulas."""
    text = LEFT_OUT.sub("\n\n", text)
    text, formulas = FORMULA.subn("FORMULA", text)
    text = re.sub(r"</?\w[^>]*>", "", ROLE.sub(r"\1", text))
    found = (re.findall(r"[\w’'./=^_-]*\w[\w’'./=^_()-]*", part) for part in END.split(text))
    return [words for words in found if words], formulas


def over(path: Path) -> list[str]:
    """What is over the limits on a page."""
    found, formulas = sentences(path.read_text(encoding="utf-8"))
    lengths, chapter = [len(words) for words in found], path.parent.name == "learn"
    said = []
    if chapter and sum(lengths) > WORDS:
        said.append(f"{sum(lengths)} words; expected {WORDS} at most")
    if chapter and formulas > FORMULAS:
        said.append(f"{formulas} inline formulas; expected {FORMULAS} at most")
    if lengths and sum(lengths) / len(lengths) > MEAN:
        said.append(f"{sum(lengths) / len(lengths):.1f} words in a sentence; expected {MEAN:g}")
    said += [
        f"a sentence of {len(words)} words: {' '.join(words[:12])} ..."
        for words in found
        if len(words) > LONGEST
    ]
    return said


def main() -> int:
    here = Path(__file__).parent
    pages = sorted(path for each in ("", "learn", "build") for path in (here / each).glob("*.md"))
    wrong = {path: over(path) for path in pages}
    for path, said in wrong.items():
        for line in said:
            print(f"{path}: {line}", file=sys.stderr)
    return any(wrong.values())


if __name__ == "__main__":
    sys.exit(main())
