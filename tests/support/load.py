"""Clients that keep asking while something else happens, and remember every answer that was not right."""

import threading

from .server import wait_until


class Load:
    """Requests on some keep-alive connections until it is stopped; with `close` each on a connection of its own, as
    whoever ends may close an idle connection just when a request is on its way to it."""

    def __init__(self, server, clients=4, target="/", close=False):
        self.server, self.target = server, target
        self.fields = [("Connection", "close")] if close else []
        self.stopping = False
        self.failures, self.bodies = [], []
        self.threads = [threading.Thread(target=self.run) for _ in range(clients)]

    def run(self):
        client = self.server.connect(timeout=30)
        try:
            while not self.stopping:
                response = client.request("GET", self.target, self.fields)
                self.bodies.append(response.text)
                if response.status != 200:
                    self.failures.append(response)
                if response.get("Connection", "").lower() == "close":
                    client.close()
                    client = self.server.connect(timeout=30)
        except Exception as error:
            self.failures.append(error)
        finally:
            client.close()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        wait_until(lambda: len(self.bodies) > 20, "the load to run")
        return self

    def __exit__(self, *_):
        self.stopping = True
        for thread in self.threads:
            thread.join()
