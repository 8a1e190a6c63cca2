"""How Sphinx makes the site: `sphinx-build -n -W -b html docs docs/_build/html`."""

from typing import Any

from pygments.lexer import RegexLexer, bygroups
from pygments.token import Comment, Generic, Text
from sphinx.application import Sphinx

from eliot_etw import __version__

project = "eliot_etw"
author = "the eliot_etw contributors"
copyright = f"{author}. Apache-2.0"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
smartquotes = False

# What docstrings write in single backticks is a link if it is one of our names, and code if not.
default_role = "py:obj"
# Without a network there is no list of Python's own names to link to; ours are all checked.
nitpick_ignore_regex = [
    ("py:obj", ".*"),
    ("py:.*", r"(?!eliot_etw\.).*"),
    ("py:.*", r"eliot_etw\..*\b_\w+(\.\w+)?"),  # private names in annotations
]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
napoleon_custom_sections = ["Source"]

html_theme = "furo"
html_title = "eliot_etw"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#0f766e",
        "color-brand-content": "#0f766e",
        "color-brand-visited": "#0f766e",
        "color-failed": "#b91c1c",
        "color-succeeded": "#15803d",
    },
    "dark_css_variables": {
        "color-brand-primary": "#5eead4",
        "color-brand-content": "#5eead4",
        "color-brand-visited": "#5eead4",
        "color-failed": "#fca5a5",
        "color-succeeded": "#86efac",
    },
}


class TerminalLexer(RegexLexer):
    """Colours command lines, and the trees that they draw as a terminal does."""

    name = "Terminal"
    tokens = {  # noqa: RUF012 - as Pygments wants it
        "root": [
            (r"^(\$ )(.*\n)", bygroups(Generic.Prompt, Generic.Strong)),
            (r"^(\d\d:\d\d:\d\d\.\d+)( +[\d.]+[µms]+)?", Comment),
            (r"[├└│─┄┈╌]+", Comment),
            (r"✓", Generic.Inserted),
            (r"✗ \S+", Generic.Error),
            (r"(?<=  )[\w.]*(Error|Exit): .*", Generic.Error),
            (r".|\n", Text),
        ]
    }


def skip_other_spellings(
    _app: Sphinx, _what: str, name: str, member: Any, _skip: bool, _options: object
) -> bool | None:
    """Leave out of the reference what is there under its own name: Eliot's camelCase."""
    return True if getattr(member, "__name__", name) != name else None


def setup(app: Sphinx) -> None:
    """Tell Sphinx about the above; Sphinx calls this."""
    app.add_lexer("console", TerminalLexer)
    app.connect("autodoc-skip-member", skip_other_spellings)
