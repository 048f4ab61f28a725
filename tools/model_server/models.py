"""The names that the server answers to: its base model and the adapters that are registered."""

from __future__ import annotations

from tools.model_server.errors import ApiError, unknown_model


class Models:
    """The base model and its adapters."""

    def __init__(
        self, base: str, *, root: str, adapters: tuple[str, ...], max_model_len: int, created: int
    ) -> None:
        self.base = base
        self.root = root
        self.adapters: dict[str, str] = dict.fromkeys(adapters, "")
        """Adapter name to its path."""
        self._max_model_len = max_model_len
        self._created = created

    def adapter_of(self, model: str) -> str:
        """Return the adapter that `model` needs, "" for the base model; raise `ApiError` 404."""
        if model in {self.base, self.root}:
            return ""
        if model not in self.adapters:
            raise unknown_model(model)
        return model

    def load(self, name: str, path: str) -> str:
        """Register an adapter; return vLLM's message."""
        if not name or not path:
            raise ApiError(400, "InvalidUserInput", "Both 'lora_name' and 'lora_path' must be provided.")
        if name in self.adapters:
            raise ApiError(400, "InvalidUserInput", f"The lora adapter '{name}' has already been loaded.")
        self.adapters[name] = path
        return f"Success: LoRA adapter '{name}' added successfully."

    def unload(self, name: str) -> str:
        """Remove an adapter; return vLLM's message."""
        if not name:
            raise ApiError(
                400, "InvalidUserInput", "either 'lora_name' and 'lora_int_id' needs to be provided."
            )
        if name not in self.adapters:
            raise ApiError(404, "NotFoundError", f"The lora adapter '{name}' cannot be found.")
        del self.adapters[name]
        return f"Success: LoRA adapter '{name}' removed successfully."

    def cards(self) -> list[dict[str, object]]:
        """Return the list of GET /v1/models."""
        base = self._card(self.base, self.root, None) | {"max_model_len": self._max_model_len}
        return [base] + [self._card(name, path or name, self.base) for name, path in self.adapters.items()]

    def _card(self, name: str, root: str, parent: str | None) -> dict[str, object]:
        return {
            "id": name,
            "object": "model",
            "created": self._created,
            "owned_by": "vllm",
            "root": root,
            "parent": parent,
            "max_model_len": None,
            "permission": [],
        }
