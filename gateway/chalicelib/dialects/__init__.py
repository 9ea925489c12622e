"""The APIs that the gateway speaks: Easel's own URLs, OpenAI's, and AUTOMATIC1111's web UI."""
