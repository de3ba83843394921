"""A mail server on loopback: its port, then each mail that it took, a line of JSON each.

Senders must authenticate, with the user and password of the command line. The first attempt
at each mail is put off, as servers do to those whom they do not know yet.
"""

import asyncio
import email
import json
import sys

from aiosmtpd.smtp import SMTP, AuthResult

USER, PASSWORD = (argument.encode() for argument in sys.argv[1:3])


def say(line):
    print(json.dumps(line), flush=True)


def check(server, session, envelope, mechanism, given):
    return AuthResult(success=(given.login, given.password) == (USER, PASSWORD))


class Mails:
    def __init__(self):
        self.seen = set()

    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content)
        if mail["To"] not in self.seen:
            self.seen.add(mail["To"])
            return "451 4.7.1 try again later"
        self.seen.remove(mail["To"])
        text = mail.get_payload(decode=True).decode()
        say({"from": mail["From"], "to": envelope.rcpt_tos, "subject": mail["Subject"], "text": text})
        return "250 OK"


async def main():
    mails = Mails()
    protocol = lambda: SMTP(mails, authenticator=check, auth_required=True, auth_require_tls=False)
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    say({"port": server.sockets[0].getsockname()[1]})
    await server.serve_forever()


asyncio.run(main())
