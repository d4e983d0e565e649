"""An SSH server with one habit about the sessions of a connection, for one user and one key.

    server.py DIRECTORY HABIT SHELL

In DIRECTORY it finds `host_key` and `key.pub`, and leaves its port in `port`, a line for each login
in `logins`, and one for each session that it has opened in `sessions`. SHELL is what runs commands. The habits:

    several   another session is opened, as by most servers
    refuses   another session is refused while one is open
    closes    another session closes the connection
    silent    another session is never answered
    ends      the connection is closed when a command has ended
    goodbye   the same, with a word to the client
"""

import asyncio
import os
import signal
import sys

import asyncssh

DIRECTORY, HABIT, SHELL = sys.argv[1:]


def path(name):
    return os.path.join(DIRECTORY, name)


def note(what):
    with open(path(what), "a") as file:
        file.write("one\n")


async def copy(read, write, end):
    """Copies a stream until it ends, or nobody wants it any more."""
    try:
        while data := await read(65536):
            await write(data)
        end()
    except (OSError, asyncssh.Error, RuntimeError):
        pass


class Connection(asyncssh.SSHServer):
    def connection_made(self, conn):
        self.conn, self.sessions = conn, 0

    def auth_completed(self):
        note("logins")

    def session_requested(self):
        if self.sessions and HABIT == "refuses":
            return False
        if self.sessions and HABIT == "closes":
            self.conn._transport.close()
            return False
        self.sessions += 1
        note("sessions")
        return asyncssh.SSHServerProcess(self.run, None, 3, False)

    async def run(self, session):
        words = [SHELL, "-c", session.command] if session.command else [SHELL]
        command = await asyncio.create_subprocess_exec(
            *words, stdin=-1, stdout=-1, stderr=-1, start_new_session=True
        )

        async def to_command(data):
            command.stdin.write(data)
            await command.stdin.drain()

        def to_client(stream):
            async def write(data):
                stream.write(data)
                await stream.drain()

            return write

        given = asyncio.create_task(copy(session.stdin.read, to_command, command.stdin.close))
        await asyncio.gather(
            copy(command.stdout.read, to_client(session.stdout), int),
            copy(command.stderr.read, to_client(session.stderr), int),
        )
        code = await command.wait()
        given.cancel()
        try:
            if code < 0:
                session.exit_with_signal(signal.Signals(-code).name[3:])
            else:
                session.exit(code)
        except (OSError, asyncssh.Error):
            pass
        await session.wait_closed()
        self.sessions -= 1
        if HABIT == "ends":
            self.conn._transport.close()
        if HABIT == "goodbye":
            self.conn.close()


def is_silent():
    """Has the server say nothing to whoever wants another session."""
    handlers = asyncssh.connection.SSHConnection._packet_handlers
    wanted = asyncssh.constants.MSG_CHANNEL_OPEN
    answer = handlers[wanted]

    def only_one(connection, *packet):
        if not connection._owner.sessions:
            return answer(connection, *packet)

    handlers[wanted] = only_one


async def main():
    if HABIT == "silent":
        is_silent()
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=Connection,
        server_host_keys=[path("host_key")],
        authorized_client_keys=path("key.pub"),
        encoding=None,
    )
    with open(path("port.new"), "w") as file:
        file.write(str(server.get_port()))
    os.rename(path("port.new"), path("port"))
    await asyncio.Event().wait()


asyncio.run(main())
