"""How the documents are built: `make site` writes them to `site/`, and any warning is an error."""

from __future__ import annotations

from rollcam._version import __version__

project = "Rollcam"
author = "the Rollcam developers"
copyright = "the Rollcam developers"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["reference/sidecar.schema.json"]
default_role = "code"  # docstrings say `name`
nitpicky = False  # signatures name types of NumPy and of the standard library, which are elsewhere

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
# Links to files of the repository stay links to files: the pages are read there, too.
suppress_warnings = ["myst.xref_missing"]

# They live in environments of their own, and their adapters are documented all the same.
autodoc_mock_imports = ["dm_env", "flatland", "ray", "torchrl"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autoclass_content = "class"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"Rollcam {release}"
html_copy_source = False
