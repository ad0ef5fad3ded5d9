"""Reports: result rows as tables, figures and self-contained HTML pages."""
