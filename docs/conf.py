"""Sphinx: `sphinx-build -W docs docs/_build`."""

import compjax

project = "compjax"
author = "The compjax authors"
copyright = "2026, the compjax authors"
release = compjax.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "jupyter_execute"]
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "none"
napoleon_google_docstring = True
napoleon_custom_sections = ["Source"]
default_role = "code"

html_theme = "furo"
html_title = "compjax"
