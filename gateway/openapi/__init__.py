"""The OpenAPI document and its page, made at package time; see `prepare_openapi.py`."""
