"""The smallest web application: says which process answered, and how it was configured."""

import os


def app(environ, start_response):
    text = f"{os.environ.get('GREETING', 'nothing')} from process {os.getppid()}\n"
    body = text.encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
