"""Starts a program for each connection, with the connection as its standard input and output.

    launch.py DIRECTORY PROGRAM ARGUMENT...

In DIRECTORY it leaves its port in `port` and a line for each connection in `logins`.
"""

import os
import socket
import subprocess
import sys

directory, program = sys.argv[1], sys.argv[2:]
listener = socket.create_server(("127.0.0.1", 0))
new = os.path.join(directory, "port.new")
with open(new, "w") as file:
    file.write(str(listener.getsockname()[1]))
os.rename(new, os.path.join(directory, "port"))
running = []
while True:
    connection, _ = listener.accept()
    with open(os.path.join(directory, "logins"), "a") as file:
        file.write("login\n")
    # Those that have ended are waited for.
    running = [one for one in running if one.poll() is None]
    running.append(subprocess.Popen(program, stdin=connection, stdout=connection))
    connection.close()
