"""The people of the contract test: they sign in as people do, by links out of mails."""

import email
import os
import re
import time
from email import policy
from itertools import count
from pathlib import Path

import requests

DASHBOARD = "/v1/dashboard"
SESSIONS = "/v1/sessions"
# What tells tests/it/contract.rs to release a session only at the end.
KEPT = {"contract": "kept"}
# The person whom a new server knows.
OPERATOR = "owner@localhost"
# Half of what an access token is good for, in seconds.
REFRESH_AFTER = 30 * 60
MAIL_WITHIN = 20


class Server:
    """The server, and the folder of the mails that it would send."""

    def __init__(self):
        self.url = os.environ["VENTUS_SERVER"]
        self.mails = Path(os.environ["VENTUS_MAILS"])
        self.numbers = count(1)

    def ask(self, method, path, token=None, body=None):
        """An answer, which is no refusal."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if path == SESSIONS:
            headers["Idempotency-Key"] = f"of-the-hooks-{next(self.numbers)}"
        url = self.url + (path if path.startswith(SESSIONS) else DASHBOARD + path)
        answer = requests.request(method, url, headers=headers, json=body, timeout=60)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def link_for(self, address):
        """The token of the link that was mailed to an address, as soon as it is there."""
        end = time.monotonic() + MAIL_WITHIN
        while time.monotonic() < end:
            for file in self.mails.glob("*.eml"):
                mail = email.message_from_bytes(file.read_bytes(), policy=policy.default)
                if mail["To"] == address:
                    file.unlink()
                    return re.search(r"#token=(\S+)", mail.get_content()).group(1)
            time.sleep(0.01)
        raise TimeoutError(f"no mail for {address}")

    def exchange(self, link):
        return SignIn(self, self.ask("POST", "/auth/tokens", body={"token": link}))


class SignIn:
    """Somebody who is signed in."""

    def __init__(self, server, tokens):
        self.server = server
        self.id = tokens["user"]["id"]
        self.take(tokens)

    def take(self, tokens):
        self.access, self.refresh = tokens["access_token"], tokens["refresh_token"]
        self.since = time.monotonic()

    def token(self):
        """An access token that is good for a while."""
        if time.monotonic() - self.since > REFRESH_AFTER:
            body = {"refresh_token": self.refresh}
            self.take(self.server.ask("POST", "/auth/refresh", body=body))
        return self.access


class People:
    """An owner of a workspace, who makes all requests, and those whom the requests are about.

    Nobody but `owner` acts, so that nothing can take their workspace or their role away."""

    WORKSPACE = "contract"

    def __init__(self):
        self.server = Server()
        self.server.ask("POST", "/auth/magic-links", body={"email": OPERATOR})
        self.operator = self.server.exchange(self.server.link_for(OPERATOR))
        token = self.operator.token()
        body = {"slug": self.WORKSPACE, "name": "Contract"}
        self.server.ask("POST", "/workspaces", token, body)
        body = {"label": "contract", "scopes": ["sessions:read", "sessions:write", "admin"]}
        self.key = self.server.ask("POST", "/ws/default/api-keys", token, body)["secret"]
        self.owner = self.somebody("owner", token)
        self.colleagues, self.passing, self.agents = [], None, []
        self.running = None

    def invitation(self, role="member", token=None):
        """The token of a link into the workspace, for an address that nobody has."""
        address = f"n{next(self.server.numbers)}@contract.example"
        path = f"/ws/{self.WORKSPACE}/invitations"
        body = {"email": address, "role": role}
        self.server.ask("POST", path, token or self.owner.token(), body)
        return self.server.link_for(address)

    def somebody(self, role="member", token=None):
        """Somebody new in the workspace."""
        return self.server.exchange(self.invitation(role, token))

    def colleague(self):
        """The id of a member whose role may change."""
        if not self.colleagues:
            self.colleagues.append(self.somebody().id)
        return self.colleagues[-1]

    def removed(self, user):
        self.colleagues = [one for one in self.colleagues if one != user]

    def leaver(self):
        """The access token of somebody who may sign out."""
        if self.passing is None:
            self.passing = self.somebody()
        return self.passing.token()

    def left(self):
        self.passing = None

    def agent(self):
        """The id of an agent of the server's, which has one."""
        if not self.agents:
            page = self.of_agents("GET", "").json()
            self.agents = [agent["id"] for agent in page["items"]]
        return self.agents[0]

    def undrain(self, agent):
        """Lets an agent take sessions again."""
        self.of_agents("DELETE", f"/{agent}/drain")

    def of_agents(self, method, path):
        headers = {"Authorization": f"Bearer {self.key}"}
        url = f"{self.server.url}/v1/agents{path}"
        answer = requests.request(method, url, headers=headers, timeout=60)
        answer.raise_for_status()
        return answer

    def session(self):
        """The id of a session that runs until the next is asked for: the test leaves it alone."""
        if self.running:
            self.server.ask("DELETE", f"{SESSIONS}/{self.running}", self.key)
        self.running = self.server.ask("POST", SESSIONS, self.key, {"labels": KEPT})["id"]
        return self.running

    def upload(self):
        """The path of a file that was put for such a session."""
        path = {"id": self.session(), "name": "report.txt"}
        url = "{}{}/{id}/uploads/{name}".format(self.server.url, SESSIONS, **path)
        headers = {"Authorization": f"Bearer {self.key}"}
        answer = requests.put(url, data=b"a report", headers=headers, timeout=60)
        answer.raise_for_status()
        return path
