#!/usr/bin/python3
"""voice.py echo PORT: sends datagrams back. voice.py send HOST PORT COUNT: 200
bytes every 20 ms, as a telephone does; prints the round trips in milliseconds
of those that come back within a second, and whole."""
import json
import select
import socket
import struct
import sys
import time

EVERY, SIZE = 0.02, 200
HEAD = struct.Struct('!Id')


def echo(port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(('0.0.0.0', port))
    while True:
        data, peer = s.recvfrom(2048)
        s.sendto(data, peer)


def filler(n):
    return bytes((n + i) & 255 for i in range(SIZE - HEAD.size))


def take(s, trips):
    data = s.recv(2048)
    n, sent = HEAD.unpack_from(data)
    if data[HEAD.size:] != filler(n):
        sys.exit(f'datagram {n} came back changed')
    trips.setdefault(n, (time.monotonic() - sent) * 1e3)


def send(host, port, count):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect((host, port))
    start, trips = time.monotonic(), {}
    for n in range(count):
        while (left := start + n * EVERY - time.monotonic()) > 0:
            if select.select([s], [], [], left)[0]:
                take(s, trips)
        s.send(HEAD.pack(n, time.monotonic()) + filler(n))
    end = time.monotonic() + 1
    while len(trips) < count and (left := end - time.monotonic()) > 0:
        if select.select([s], [], [], left)[0]:
            take(s, trips)
    print(json.dumps([round(t, 3) for t in trips.values()]))


if sys.argv[1] == 'echo':
    echo(int(sys.argv[2]))
else:
    send(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
