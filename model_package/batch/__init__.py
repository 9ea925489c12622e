"""What paints a batch as a SageMaker training job: a file of requests, a folder of pictures.

It uses the serving code that is next to the model, so that its pictures are those of the endpoint.
"""
