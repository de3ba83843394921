"""A proxy, mostly with credentials, for the tests: pproxy, told what to be on standard input.

In:  one line of JSON: scheme (http, https or socks5), username and password unless it knows none;
     for https also certificate and key, paths of PEM files.
Out: its port, then a line for each connection it opens or refuses.
"""

import asyncio
import json
import sys

import pproxy


def say(line):
    print(line, flush=True)


async def main():
    told = json.loads(sys.stdin.readline())
    kind = {"https": "http+ssl"}.get(told["scheme"], told["scheme"])
    known = f"#{told['username']}:{told['password']}" if "username" in told else ""
    server = pproxy.Server(f"{kind}://127.0.0.1:0{known}")
    if server.sslserver:
        server.sslserver.load_cert_chain(told["certificate"], told["key"])
    handler = await server.start_server({"rserver": [pproxy.Connection("direct")], "verbose": say})
    say(handler.sockets[0].getsockname()[1])
    await handler.serve_forever()


asyncio.run(main())
