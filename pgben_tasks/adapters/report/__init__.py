"""How the weekly report looks: as a mail, as a file, on a page of the console, and as text.

``render.render`` makes all of them from ``domain/report.py``, in any language; others use nothing
else of this package but the stylesheet. ``content`` says what stands in the report, in which words
and order; ``text``, ``plots`` and the templates only write that. Nothing is asked here: what is not
in the document cannot be shown.
"""
