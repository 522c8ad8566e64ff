#!/usr/bin/python3
"""A client made of paramiko; what it is asked: tests/system/interop.py."""
import hashlib
import os
import socket
import sys
import threading

import paramiko

SIZE = 32768
rekey = int(os.environ.get('REKEY', 0))
alive = int(os.environ.get('KEEPALIVE', 0))


def login(host, port, user, keyfile, fingerprint):
    transport = paramiko.Transport(socket.create_connection((host, port)))
    transport.start_client(timeout=30)
    blob = transport.get_remote_server_key().asbytes()
    if hashlib.sha256(blob).hexdigest() != fingerprint:
        raise paramiko.SSHException('the host key is another')
    with open(keyfile) as f:
        text = f.read()
    for kind in (paramiko.Ed25519Key, paramiko.RSAKey, paramiko.ECDSAKey):
        try:
            key = kind.from_private_key_file(keyfile)
            break
        except (paramiko.SSHException, ValueError):
            continue
    else:
        raise paramiko.SSHException(f'no key: {text[:40]}')
    transport.auth_publickey(user, key)
    if alive:
        transport.set_keepalive(alive)
    return transport


def feed(transport, channel):
    """Standard input; after each so many bytes a new key exchange."""
    sent = 0
    while data := os.read(0, SIZE):
        channel.sendall(data)
        sent += len(data)
        if rekey and sent >= rekey:
            transport.renegotiate_keys()
            sent = 0
    channel.shutdown_write()


def open_to(transport, host, port):
    channel = transport.open_channel('direct-tcpip', (host, int(port)),
                                     ('127.0.0.1', 0))
    threading.Thread(target=feed, args=(transport, channel),
                     daemon=True).start()
    while data := channel.recv(SIZE):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    channel.close()


def echo(channel):
    while data := channel.recv(SIZE):
        channel.sendall(data)
    channel.shutdown_write()
    channel.close()


def listen(transport, port):
    def accept(channel, _origin, _server):
        threading.Thread(target=echo, args=(channel,), daemon=True).start()
    port = transport.request_port_forward('localhost', int(port), accept)
    print(f'listening on {port}', flush=True)
    while os.read(0, SIZE):
        pass
    transport.cancel_port_forward('localhost', port)


def command(transport, words):
    channel = transport.open_session()
    channel.exec_command(words)
    sys.stdout.buffer.write(channel.recv(SIZE))
    sys.exit(channel.recv_exit_status())


def main():
    host, port, user, keyfile, fingerprint, verb, *args = sys.argv[1:]
    transport = login(host, int(port), user, keyfile, fingerprint)
    try:
        {'open': open_to, 'listen': listen,
         'exec': command}[verb](transport, *args)
    finally:
        transport.close()


try:
    main()
except (paramiko.SSHException, OSError) as e:
    sys.exit(f'{type(e).__name__}: {e}')
