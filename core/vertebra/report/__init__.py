"""The report: tables on screen, figures and the HTML page."""
