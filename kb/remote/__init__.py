"""Tools of other people's MCP servers (modelcontextprotocol.io): listed, judged, called within limits.

Nothing here imports the SDK, which takes half a second, until a server is reached.
"""
