"""The asyncssh peer of benches/compare: one connection, kept open, and commands on request.

    asyncssh_driver.py HOST PORT USER KEY_FILE KNOWN_HOSTS_FILE COMMAND

Prints one JSON object when it is connected, and then one for each line of stdin:

    tight N              N commands, one directly after the other
    spaced N PAUSE_MS    the same, with a pause between them that is not counted
    width W N            N commands, W at once

An answer has `ms`, the times of the commands that succeeded, `errors`, how many did not, `first_error`, and `seconds`, how long it all
took. The end of stdin ends the program.
"""

import asyncio
import json
import platform
import socket
import sys
import time

import asyncssh

# For one command. What takes longer is an error, as it is for the other peers.
DEADLINE = 30
# For one request: no command is begun after that.
PATIENCE = 60


class Turn:
    def __init__(self):
        self.ms = []
        self.errors = 0
        self.first_error = None
        self.started = time.perf_counter()

    async def command(self, connection, command):
        started = time.perf_counter()
        try:
            ended = await asyncio.wait_for(connection.run(command), DEADLINE)
            elapsed = time.perf_counter() - started
            failure = None if ended.exit_status == 0 else f"status {ended.exit_status}"
        except Exception as error:
            failure = str(error) or type(error).__name__
        if failure is None:
            self.ms.append(elapsed * 1000)
        else:
            self.errors += 1
            self.first_error = self.first_error or failure

    def over(self):
        return time.perf_counter() - self.started > PATIENCE

    def answer(self):
        seconds = time.perf_counter() - self.started
        return {"ms": self.ms, "errors": self.errors, "first_error": self.first_error, "seconds": seconds}


async def one_by_one(connection, command, commands, pause):
    turn = Turn()
    for _ in range(commands):
        if turn.over():
            break
        await turn.command(connection, command)
        if pause:
            await asyncio.sleep(pause)
    return turn.answer()


async def at_once(connection, command, width, commands):
    turn = Turn()
    left = commands

    async def worker():
        nonlocal left
        while left > 0 and not turn.over():
            left -= 1
            await turn.command(connection, command)

    await asyncio.gather(*(worker() for _ in range(width)))
    return turn.answer()


def say(answer):
    print(json.dumps(answer), flush=True)


async def main(host, port, user, key, known_hosts, command):
    # No configuration of whoever runs this, and no agent: the other peers have none either.
    connection = await asyncssh.connect(
        host, int(port), username=user, client_keys=[key], known_hosts=known_hosts, agent_path=None, config=None
    )
    # asyncssh turns Nagle's algorithm off by itself; this says whether it still does.
    of_connection = connection.get_extra_info("socket")
    no_delay = of_connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
    versions = {"asyncssh": asyncssh.__version__, "Python": platform.python_version()}
    say({"versions": versions, "no_delay": no_delay})

    requests = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(requests), sys.stdin)
    async for line in requests:
        match line.decode().split():
            case ["tight", commands]:
                say(await one_by_one(connection, command, int(commands), 0))
            case ["spaced", commands, pause]:
                say(await one_by_one(connection, command, int(commands), int(pause) / 1000))
            case ["width", width, commands]:
                say(await at_once(connection, command, int(width), int(commands)))
            case other:
                raise SystemExit(f"no such request: {other}")


asyncio.run(main(*sys.argv[1:]))
