"""A local server with OpenAI's interface, and one page to look at models with.

`worker.py` runs a model's engine in a thread, `models.py` is what is served, `requests.py` reads
what clients want and `answers.py` writes what they get, `app.py` has the routes, `metrics.py`
counts.
"""
