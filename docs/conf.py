"""How Sphinx builds these pages: ``make docs``."""

from tomolive import __version__

project = "tomolive"
author = "the tomolive developers"
release = version = __version__
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "index"
exclude_patterns = ["_build", "README.md"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
html_theme = "furo"
html_title = "tomolive"
# Links such as ../src lead to the source on the web, not to a page.
suppress_warnings = ["myst.xref_missing"]
nitpicky = True
