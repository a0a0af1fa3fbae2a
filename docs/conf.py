"""How the site is built: `make docs`, or `sphinx-build -c docs . build/site`.

The source folder is the root of the repository, so that a relative link between README, docs and notebooks
is the same link on a code host and on the site.
"""

import safetykit_analytics

project = "safetykit-analytics"
author = "the safetykit-analytics authors"
copyright = f"2026, {author}"  # noqa: A001 -- Sphinx asks for this name
version = release = safetykit_analytics.__version__

root_doc = "docs/index"
include_patterns = ["docs/**", "notebooks/*.ipynb", "benchmarks/README.md", "CHANGELOG.md", "CONTRIBUTING.md"]
exclude_patterns = ["docs/_site", "docs/_static"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "numpydoc"]

html_theme = "furo"
html_title = "safetykit-analytics"
html_extra_path = ["_site"]
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}

# A broken reference is an error under -W, also one from a page to a heading.
nitpicky = True
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]
suppress_warnings = ["myst.header"]

# Every notebook runs when the site is built: what is shown is what this version prints.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_execution_in_temp = True
# What a notebook shows as Markdown may hold tables.
nb_render_markdown_format = "myst"

# Docstrings say types in words; what stands in single backquotes is code.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
default_role = "code"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
