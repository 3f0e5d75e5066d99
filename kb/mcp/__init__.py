"""The tools, texts and prompts as an MCP server (modelcontextprotocol.io); how it is reached is for others.

Nothing here imports the SDK, which takes half a second, until a server is made.
"""
