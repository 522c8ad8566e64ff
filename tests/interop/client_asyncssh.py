#!/usr/bin/python3
"""A client made of asyncssh; what it is asked: tests/system/interop.py."""
import asyncio
import hashlib
import os
import sys

import asyncssh

SIZE = 32768


class Client(asyncssh.SSHClient):
    def __init__(self, fingerprint):
        self.fingerprint = fingerprint

    def validate_host_public_key(self, _host, _addr, _port, key):
        return hashlib.sha256(key.public_data).hexdigest() == self.fingerprint


async def standard_input():
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def copy(reader, writer):
    while data := await reader.read(SIZE):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


async def open_to(conn, host, port):
    reader, writer = await conn.open_connection(host, int(port))
    feed = asyncio.ensure_future(copy(await standard_input(), writer))
    while data := await reader.read(SIZE):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    feed.cancel()
    writer.close()


async def listen(conn, port):
    async def echo(reader, writer):
        await copy(reader, writer)
        writer.close()
    listener = await conn.start_server(lambda *_: echo, 'localhost',
                                       int(port))
    if not listener:
        raise OSError('the server does not listen')
    await stay(listener)


async def socks(conn, port):
    await stay(await conn.forward_socks('127.0.0.1', int(port)))


async def stay(listener):
    print(f'listening on {listener.get_port()}', flush=True)
    await (await standard_input()).read()
    listener.close()
    await listener.wait_closed()


async def command(conn, words):
    done = await conn.run(words)
    print(done.stdout, end='')
    sys.exit(done.exit_status)


async def main():
    host, port, user, keyfile, fingerprint, verb, *args = sys.argv[1:]
    options = {}
    if 'REKEY' in os.environ:
        options['rekey_bytes'] = int(os.environ['REKEY'])
    if 'KEEPALIVE' in os.environ:
        options['keepalive_interval'] = int(os.environ['KEEPALIVE'])
    async with asyncssh.connect(
            host, int(port), username=user, client_keys=[keyfile],
            client_factory=lambda: Client(fingerprint), config=None,
            agent_path=None, known_hosts=b'', **options) as conn:
        await {'open': open_to, 'listen': listen, 'socks': socks,
               'exec': command}[verb](conn, *args)


try:
    asyncio.run(main())
except (asyncssh.Error, OSError) as e:
    sys.exit(f'{type(e).__name__}: {e}')
