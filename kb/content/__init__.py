"""The source texts: opened by span, page or heading, looked through, measured."""
