from __future__ import annotations

from services.openai.texts import weight
from tests.safety.exchange import Exchange

DOCUMENT = {
    "model": "m",
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "caf\u00e9"}, {"type": "image_url", "image_url": {"url": "data:,x"}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "42"},
    ],
}  # fmt: skip


async def test_the_bytes_of_a_request_add_up():
    """Scanned, not scanned with the reason, and words of the protocol are together all its strings."""
    exchange = Exchange()
    await exchange.ask(DOCUMENT)
    verdict = exchange.heard.records[0].verdict
    assert verdict.scanned_bytes + verdict.skipped_bytes + verdict.exempt_bytes == weight(DOCUMENT)  # type: ignore[arg-type]  # JSON
    assert (verdict.scanned_bytes, verdict.skipped_bytes, verdict.skipped) == (13, 7, ("media",))
