"""Settings of the site; `dytemp.lab.book.site` puts pages and chapters into one folder for it."""

import dytemp

project = "dytemp"
author = "the authors of dytemp"
release = dytemp.__version__

extensions = [
    "myst_nb",
    "sphinx_design",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "dytemp.lab.book.mathml",
]
exclude_patterns = ["README.md"]
suppress_warnings = ["mystnb.unknown_mime_type"]

# Chapters: their stored outputs, arranged by our own reader; formulas as MathML.
nb_custom_formats = {".ipynb": ["dytemp.lab.book.reading.read", {}, False]}
nb_execution_mode = "off"
nb_render_markdown_format = "myst"
nb_ipywidgets_js: dict[str, str] = {}
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
html_math_renderer = "mathml"

# Docstrings are NumPy style; a name in single backticks is a reference where it can be one.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = False
napoleon_use_ivar = True

html_theme = "sphinx_book_theme"
html_title = "dytemp"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_use_index = False
html_copy_source = True
html_show_search_summary = False  # browsers do not let a page read other files
html_last_updated_fmt = None
html_context = {"default_mode": "auto"}
html_theme_options = {
    "home_page_in_toc": True,
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "navigation_with_keys": True,
    "search_bar_text": "Search",
    "navbar_persistent": [],
}
