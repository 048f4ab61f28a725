"""Refusals of the API, in vLLM's words. Each dialect has its own form for them."""

from __future__ import annotations


class ApiError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, kind: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        """vLLM's `type`, as `NotFoundError`."""
        self.message = message
        self.param = param


def bad_request(message: str, param: str | None = None) -> ApiError:
    """400."""
    return ApiError(400, "BadRequestError", message, param)


def unknown_model(model: str) -> ApiError:
    """404 for a model or adapter that is not served."""
    return ApiError(404, "NotFoundError", f"The model `{model}` does not exist.", "model")
