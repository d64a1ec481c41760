"""Methods compared on patients: statistics, tables, figures, reports."""
