#!/usr/bin/python3
"""A well-behaved client beside hostile ones: neighbour.py PORT ssh ... -W
127.0.0.1:PORT ...

It serves an echo on PORT, sends to and fro through the given ssh a few times a
second, and all the while looks at the memory of the server's processes. It
says "ready", goes on until its standard input ends, and then says in JSON what
it met: rounds, the longest (s), the longest that the machine kept it from
running (s), the most memory by name of process (KiB), and an error.

It is a process of its own so that nobody's lock is in its way.
"""
import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import time

INTERVAL_S = 0.02
TIMEOUT_S = 60
MESSAGE = bytes(range(256)) * 4


def memory(most):
    """The high-water marks of who is there now."""
    for pid in os.listdir('/proc'):
        if not pid.isdigit():
            continue
        with contextlib.suppress(OSError, KeyError), \
                open(f'/proc/{pid}/status') as f:
            status = dict(line.split(':', 1) for line in f if ':' in line)
            name = status['Name'].strip()
            if name.startswith('adit'):
                kib = int(status['VmHWM'].split()[0])
                most[name] = max(most.get(name, 0), kib)


def read(fd, n):
    got = b''
    while len(got) < n:
        if not select.select([fd], [], [], TIMEOUT_S)[0]:
            raise TimeoutError('no answer')
        data = os.read(fd, n - len(got))
        if not data:
            raise ConnectionError('the session ended')
        got += data
    return got


def main():
    seen = {'rounds': 0, 'worst': 0, 'noise': 0, 'memory': {}, 'error': ''}
    with socket.create_server(('127.0.0.1', int(sys.argv[1]))) as s:
        ssh = subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, bufsize=0)
        s.settimeout(TIMEOUT_S)
        there, _ = s.accept()
    send, back = ssh.stdin.fileno(), ssh.stdout.fileno()
    try:
        while True:
            started = time.monotonic()
            os.write(send, MESSAGE)
            there.sendall(read(there.fileno(), len(MESSAGE)))
            if read(back, len(MESSAGE)) != MESSAGE:
                raise ValueError('another echo')
            took = time.monotonic() - started
            seen['rounds'] += 1
            if seen['rounds'] == 1:
                print('ready', flush=True)
            else:
                seen['worst'] = max(seen['worst'], took)
            memory(seen['memory'])
            due = time.monotonic() + INTERVAL_S
            if select.select([0], [], [], INTERVAL_S)[0]:
                break
            seen['noise'] = max(seen['noise'], time.monotonic() - due)
    except (OSError, ValueError) as e:
        seen['error'] = f'{type(e).__name__}: {e}'
    print(json.dumps(seen), flush=True)
    there.close()
    ssh.terminate()
    ssh.wait()


main()
