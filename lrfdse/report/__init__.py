"""The finished exploration as files, tables, figures and a page."""
