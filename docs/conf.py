"""Sphinx configuration. The build needs no network: formulas are typeset by the vendored MathJax,
there is no remote inventory."""

import re
import sys
import types
import typing
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import sphinx.util.inspect  # noqa: E402
import torch  # noqa: E402
from sphinx.ext.napoleon import GoogleDocstring  # noqa: E402

import flowsolve  # noqa: E402

torch.set_num_threads(1)  # the pages are built by as many processes as there are cores

project = "flowsolve"
author = "the flowsolve authors"
copyright = author
version = release = flowsolve.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "mathml",
    "tidy",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinxcontrib.bibtex",
    "explorer",
    "zoo_tables",
    "matplotlib.sphinxext.plot_directive",
]
exclude_patterns = ["_build", "generated", "mathjax"]

html_theme = "furo"
html_title = f"flowsolve {release}"
html_static_path = ["_static"]
html_favicon = "_static/favicon.svg"
html_search_scorer = str(HERE / "_static" / "scorer.js")
html_css_files = ["custom.css"]
html_js_files = [("filter.js", {"defer": "defer"})]
html_copy_source = False
html_show_sphinx = False

html_math_renderer = "mathml"
math_numfig = False
math_eqref_format = "({number})"

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# A prime is no apostrophe, and "eps" is to be copied as it stands.
smartquotes_action = "De"

bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "unsrt"
bibtex_reference_style = "label"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
maximum_signature_line_length = 100

plot_formats = ["svg"]
plot_html_show_formats = False
plot_html_show_source_link = False
plot_rcparams = {"svg.hashsalt": "flowsolve", "savefig.transparent": True}

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


MARK = re.compile(r"(`[^`]*`)|(\*(?=(?:state_)?shape\b|state\b|entries\b)|\|(?=[^|\s\\]+\|))")


def escape_marks(app, what, name, obj, options, lines):
    """In a docstring ``(n, *shape)`` is a shape, ``(n, *state)`` another, no emphasis; ``|x|``
    is a norm, not a substitution."""
    for i, line in enumerate(lines):
        lines[i] = MARK.sub(lambda m: m.group(1) or "\\" + m.group(2), line)


def show_defaults(app, what, name, obj, options, signature, annotation):
    """A dataclass field's ``<factory>`` and ``<function f>`` are no Python and would leave the
    whole signature without markup; defaults have values."""
    if signature is None:
        return None
    signature = re.sub(
        r"\bDEFAULT_[A-Z]+\b",
        lambda m: repr(getattr(sys.modules[obj.__module__], m.group())),
        signature,
    )
    signature = re.sub(r"<function (\w+)[^>]*>", r"\1", signature)
    return signature.replace("<factory>", "{}"), annotation


# In signatures a type is the type: what the library's checks want to know of it is in the text.
sphinx.util.inspect.typing = types.SimpleNamespace(
    **{
        **vars(typing),
        "get_type_hints": lambda *a, **k: typing.get_type_hints(
            *a, **{**k, "include_extras": False}
        ),
    }
)

# "The state's dtype: float32, or ..." in a property is a sentence, not a type and its description.
GoogleDocstring._parse_attribute_docstring = lambda self: self._consume_to_end()


def setup(app):
    app.connect("autodoc-process-docstring", escape_marks)
    app.connect("autodoc-process-signature", show_defaults)
