"""The command that lists language models."""

from typing import TYPE_CHECKING

from kb.cli.terminal import AsJson, DataDir, print_json, say, service

if TYPE_CHECKING:
    from kb.models.registry import Model


def models(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Language models: windows, limits, credits for 1,000 tokens at each tier, and where they are called."""
    with service(data_dir, as_json) as opened:
        known = list(opened.language_models.models.values())
        called_at = {
            model.id: [one.name for one in opened.endpoints.all if model.id in one.models] for model in known
        }
    if as_json:
        print_json([{**model.model_dump(mode="json"), "called_at": called_at[model.id]} for model in known])
        return
    for model in known:
        say(_line(model, called_at[model.id]))


def _line(model: "Model", called_at: list[str]) -> str:
    rates = [f"{tier} {rate.input} in, {rate.output} out" for tier, rate in model.credits.tiers().items()]
    return (
        f"{model.id}  reads {model.context_window:,} tokens, writes {model.max_output_tokens:,}  "
        f"credits for 1,000: {'; '.join(rates)}; cache hit {model.credits.cache_hit}  "
        + (f"called at {', then '.join(called_at)}" if called_at else "called nowhere yet: set KB_ENDPOINTS")
    )
