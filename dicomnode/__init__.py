"""Associations and jobs: reception, the workflow engine, delivery, the web page. Calls `pipeline`."""
