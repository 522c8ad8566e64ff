"""A minimal SSH client whose every byte the test chooses. It checks nothing:
it is there to be rude. curve25519-sha256, aes128-gcm, ed25519."""
import hashlib
import os
import socket
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey, X25519PublicKey)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import (
    Encoding, PublicFormat, load_ssh_private_key)

from harness import SLOW, TOP, USER

(DISCONNECT, IGNORE, DEBUG, SERVICE_REQUEST, SERVICE_ACCEPT) = 1, 2, 4, 5, 6
(KEXINIT, NEWKEYS, ECDH_INIT, ECDH_REPLY) = 20, 21, 30, 31
(AUTH_REQUEST, AUTH_FAILURE, AUTH_SUCCESS, PK_OK) = 50, 51, 52, 60
(GLOBAL, SUCCESS, FAILURE) = 80, 81, 82
(OPEN, CONFIRM, OPEN_FAILURE, WINDOW, DATA, EXTENDED, EOF, CLOSE, REQUEST,
 CHAN_SUCCESS, CHAN_FAILURE) = range(90, 101)


class Gone(Exception):
    """The server ended the connection: its DISCONNECT text, or nothing."""


def u32(n):
    return struct.pack('>I', n)


def string(s):
    s = s.encode() if isinstance(s, str) else s
    return u32(len(s)) + s


def mpint(raw):
    raw = raw.lstrip(b'\0')
    return string(b'\0' + raw if raw and raw[0] & 0x80 else raw)


class Reader:
    def __init__(self, data):
        self.data = data

    def take(self, n):
        head, self.data = self.data[:n], self.data[n:]
        return head

    def u32(self):
        return struct.unpack('>I', self.take(4))[0]

    def string(self):
        return self.take(self.u32())


class Direction:
    """Keys of one direction; None before the first key exchange."""

    def __init__(self, key, iv):
        self.aead, self.fixed = AESGCM(key), iv[:4]
        self.counter = int.from_bytes(iv[4:], 'big')

    def nonce(self):
        nonce = self.fixed + (self.counter % 2 ** 64).to_bytes(8, 'big')
        self.counter += 1
        return nonce


class Raw:
    def __init__(self, port, login=True, rcvbuf=None, strict=True):
        self.sock = socket.socket()
        if rcvbuf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.sock.settimeout(15 * SLOW)
        self.sock.connect(('127.0.0.1', port))
        self.buf, self.out, self.inp = b'', None, None
        self.session_id, self.strict = None, strict
        self.banner = b'SSH-2.0-rude'
        self.sock.sendall(self.banner + b'\r\n')
        self.server_banner = self.line()
        if login:
            self.kex()
            self.login()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    # Bytes and packets.

    def fill(self, n):
        while len(self.buf) < n:
            try:
                data = self.sock.recv(65536)
            except (ConnectionResetError, BrokenPipeError):
                data = b''
            if not data:
                raise Gone('')
            self.buf += data
        head, self.buf = self.buf[:n], self.buf[n:]
        return head

    def line(self):
        line = b''
        while not line.endswith(b'\n'):
            line += self.fill(1)
        return line.rstrip(b'\r\n')

    def pack(self, payload):
        block = 16 if self.out else 8
        clear = 1 if self.out else 5  # GCM leaves the length out
        padding = -(clear + len(payload)) % block
        padding += block if padding < 4 else 0
        body = bytes([padding]) + payload + bytes(padding)
        head = u32(len(body))
        if not self.out:
            return head + body
        return head + self.out.aead.encrypt(self.out.nonce(), body, head)

    def send(self, *payloads):
        """Each argument is one payload; all leave in one write."""
        self.write(b''.join(self.pack(p) for p in payloads))

    def write(self, data):
        try:
            self.sock.sendall(data)
        except (ConnectionResetError, BrokenPipeError):
            raise Gone('') from None

    def recv(self):
        """The next payload that is no chatter."""
        while True:
            head = self.fill(4)
            length = struct.unpack('>I', head)[0]
            if self.inp:
                body = self.fill(length + 16)
                try:
                    body = self.inp.aead.decrypt(self.inp.nonce(), body, head)
                except InvalidTag:
                    raise AssertionError('a packet of the server is broken')
            else:
                body = self.fill(length)
            payload = body[1:len(body) - body[0]]
            if payload[0] == DISCONNECT:
                r = Reader(payload[5:])
                raise Gone(r.string().decode())
            if payload[0] not in (IGNORE, DEBUG, 7):  # 7: EXT_INFO
                return payload

    def expect(self, *types):
        """The next payload of one of these types; others are passed over."""
        while True:
            payload = self.recv()
            if payload[0] in types:
                return payload

    def until_gone(self):
        """Read on to the end: the DISCONNECT text."""
        try:
            while True:
                self.recv()
        except Gone as e:
            return str(e)

    # Key exchange and login.

    def kexinit(self):
        kex = b'curve25519-sha256'
        if self.strict and not self.session_id:
            kex += b',kex-strict-c-v00@openssh.com'
        lists = [kex, b'ssh-ed25519', *[b'aes128-gcm@openssh.com'] * 2,
                 *[b'hmac-sha2-256'] * 2, *[b'none'] * 2, b'', b'']
        return (bytes([KEXINIT]) + os.urandom(16)
                + b''.join(map(string, lists)) + bytes(5))

    def kex(self, before_newkeys=(), mine=None):
        """One key exchange; the server's KEXINIT and public key."""
        mine = mine or self.kexinit()
        secret = X25519PrivateKey.generate()
        public = secret.public_key().public_bytes(Encoding.Raw,
                                                  PublicFormat.Raw)
        self.send(mine)
        theirs = self.expect(KEXINIT)
        self.send(bytes([ECDH_INIT]) + string(public))
        r = Reader(self.expect(ECDH_REPLY)[1:])
        host_key, server_public = r.string(), r.string()
        shared = mpint(secret.exchange(
            X25519PublicKey.from_public_bytes(server_public)))
        digest = hashlib.sha256(
            string(self.banner) + string(self.server_banner) + string(mine)
            + string(theirs) + string(host_key) + string(public)
            + string(server_public) + shared).digest()
        self.session_id = self.session_id or digest
        key = {c: hashlib.sha256(shared + digest + c + self.session_id)
               .digest() for c in (b'A', b'B', b'C', b'D')}
        self.send(*before_newkeys, bytes([NEWKEYS]))
        self.expect(NEWKEYS)
        self.out = Direction(key[b'C'][:16], key[b'A'][:12])
        self.inp = Direction(key[b'D'][:16], key[b'B'][:12])
        return theirs, server_public

    def service(self):
        self.send(bytes([SERVICE_REQUEST]) + string('ssh-userauth'))
        self.expect(SERVICE_ACCEPT)

    def auth_request(self, user=USER, key='id', signed_user=None,
                     session_id=None, spoil=False, algorithm='ssh-ed25519',
                     service='ssh-connection'):
        with open(f'{TOP}/{key}', 'rb') as f:
            private = load_ssh_private_key(f.read(), None)
        public = private.public_key().public_bytes(Encoding.Raw,
                                                   PublicFormat.Raw)

        def request(name):
            return (bytes([AUTH_REQUEST]) + string(name) + string(service)
                    + string('publickey') + b'\1' + string(algorithm)
                    + string(string('ssh-ed25519') + string(public)))
        signature = private.sign(string(session_id or self.session_id)
                                 + request(signed_user or user))
        if spoil:
            signature = signature[:-1] + bytes([signature[-1] ^ 1])
        return request(user) + string(string('ssh-ed25519')
                                      + string(signature))

    def login(self, **kw):
        self.service()
        self.send(self.auth_request(**kw))
        payload = self.expect(AUTH_SUCCESS, AUTH_FAILURE)
        return payload[0] == AUTH_SUCCESS

    # The connection protocol.

    def open_payload(self, chan, port, host='127.0.0.1', window=1 << 21,
                     packet=1 << 15):
        return (bytes([OPEN]) + string('direct-tcpip') + u32(chan)
                + u32(window) + u32(packet) + string(host) + u32(port)
                + string('127.0.0.1') + u32(1))

    def open(self, chan, port, **kw):
        """The server's number of the channel, or None when it is refused."""
        self.send(self.open_payload(chan, port, **kw))
        payload = self.expect(CONFIRM, OPEN_FAILURE)
        if payload[0] == OPEN_FAILURE:
            return None
        return struct.unpack('>I', payload[5:9])[0]

    def global_request(self, name, rest=b'', want_reply=True):
        return (bytes([GLOBAL]) + string(name) + bytes([want_reply]) + rest)

    def listen(self, host, port, want_reply=True, name='tcpip-forward'):
        return self.global_request(name, string(host) + u32(port), want_reply)


def data(chan, payload):
    return bytes([DATA]) + u32(chan) + string(payload)


def on_channel(kind, chan, rest=b''):
    return bytes([kind]) + u32(chan) + rest
