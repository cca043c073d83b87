"""A small Flask application: `monoceros 'app:create_app()'`, or `monoceros app:app`."""

import os

from flask import Flask, jsonify, render_template, request
from werkzeug.exceptions import HTTPException


def create_app(greeting="Hello"):
    """The application; `monoceros 'app:create_app(greeting="Salut")'` passes an argument."""
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = 1 << 20

    @app.get("/")
    def form():
        return render_template("form.html", greeting=greeting)

    @app.post("/")
    def greet():
        name = request.form.get("name", "").strip() or "stranger"
        return render_template("form.html", greeting=greeting, name=name)

    @app.get("/api/hello/<name>")
    def hello(name):
        return jsonify(message=f"{greeting}, {name}", worker=os.getpid())

    @app.post("/api/echo")
    def echo():
        """The JSON that was sent, beside what the application knows of its client."""
        return jsonify(
            json=request.get_json(),
            client=request.remote_addr,
            scheme=request.scheme,
            host=request.host,
        )

    @app.errorhandler(HTTPException)
    def error(problem):
        if not request.path.startswith("/api/"):
            return problem
        return jsonify(error=problem.name, description=problem.description), problem.code

    return app


app = create_app()
