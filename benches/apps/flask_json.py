"""A JSON answer as a Flask application gives it: routing, a query argument, headers."""

from flask import Flask, jsonify, request

application = Flask(__name__)


@application.get("/items/<int:number>")
def item(number):
    return jsonify(number=number, name=f"item {number}", page=request.args.get("page", "1"), tags=["a", "b", "c"])
