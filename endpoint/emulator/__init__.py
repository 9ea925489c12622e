"""AWS on a laptop: SageMaker, S3 and API Gateway as far as Easel meets them.

`python -m endpoint.emulator --help` shows what can be started; `docs/emulator.md` says what is
imitated and what is not.
"""
