"""The HTTP service: submit, watch and share runs over the store; workers do the running.

`settings.py` says what a server may do, `guard.py` keeps out what must not come in, `access.py`
knows the token and the login, `answers.py` and `bodies.py` what goes out and comes in,
`submission.py` turns a body into a spec, and the routes are in files by subject. `app.py` puts it
together, `serving.py` listens, `local.py` keeps one worker going beside it.

FastAPI and uvicorn come with the extra `serve`; only `settings.py`, `local.py` and this file do
without them.
"""

from discover.service.settings import Settings

__all__ = ["Settings"]
