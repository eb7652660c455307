"""Settings of Sphinx; `python docs/build.py` builds the site."""

import sys
from pathlib import Path

import hushwork

sys.path.insert(0, str(Path(__file__).parent))  # terminal.py, which the tutorials use

project = "hushwork"
version = release = hushwork.__version__
project_copyright = "hushwork contributors, Apache-2.0"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_gallery.gen_gallery"]
exclude_patterns = ["_build", "course", "tutorials", "**/sg_execution_times.rst", "sg_execution_times.rst"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}

myst_enable_extensions = ["attrs_inline", "colon_fence", "dollarmath"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_numpy_docstring = False
napoleon_use_rtype = False

sphinx_gallery_conf = {
    "examples_dirs": ["course", "tutorials"],
    "gallery_dirs": ["generated/course", "generated/tutorials"],
    "filename_pattern": r"\.py",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 1e9,
    "write_computation_times": False,
    "download_all_examples": False,
    "remove_config_comments": True,
    "reset_modules": (),
}

linkcheck_anchors = False  # many pages make theirs by script
linkcheck_timeout = 20

html_theme = "pydata_sphinx_theme"
html_title = "hushwork"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_extra_path = ["media"]
html_show_sourcelink = False
html_sidebars = {page: [] for page in ("index", "quick-start", "api", "results", "search")}  # they are no sections
html_theme_options = {
    "header_links_before_dropdown": 9,
    "show_prev_next": True,
    "navigation_with_keys": False,
    "navbar_persistent": ["search-button"],
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
