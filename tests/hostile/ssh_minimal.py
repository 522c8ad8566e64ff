"""A minimal SSH client that says whatever a test wants it to say.

One key exchange (ssh-ed25519, and curve25519-sha256 or another of KEX), the
ciphers of ciphers.py, one user key (ed25519, unencrypted), no rules about what
may be sent when. Needs python3-cryptography and nothing else.

    c = Client('127.0.0.1', 2222, 'user', 'id_ed25519')
    c.connect()
    c.auth()
    c.send(byte(80) + string('x') + byte(1))
    c.recv(5)
"""
import hashlib
import os
import select
import socket
import struct
import time

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519
from cryptography.hazmat.primitives.serialization import (
    Encoding, PublicFormat, load_ssh_private_key)

from ciphers import MODES, Clear

(DISCONNECT, IGNORE, UNIMPLEMENTED, DEBUG, SERVICE_REQUEST, SERVICE_ACCEPT,
 EXT_INFO) = range(1, 8)
KEXINIT, NEWKEYS, KEX_ECDH_INIT, KEX_ECDH_REPLY = 20, 21, 30, 31
(USERAUTH_REQUEST, USERAUTH_FAILURE, USERAUTH_SUCCESS, USERAUTH_BANNER) = \
    range(50, 54)
USERAUTH_PK_OK = 60
GLOBAL_REQUEST, REQUEST_SUCCESS, REQUEST_FAILURE = 80, 81, 82
(OPEN, OPEN_CONFIRMATION, OPEN_FAILURE, WINDOW_ADJUST, DATA, EXTENDED_DATA,
 EOF, CLOSE, REQUEST, SUCCESS, FAILURE) = range(90, 101)

KEX = {'curve25519-sha256': (None, 'sha256'),
       'ecdh-sha2-nistp384': (ec.SECP384R1, 'sha384'),
       'ecdh-sha2-nistp521': (ec.SECP521R1, 'sha512')}
WINDOW, PACKET = 2 * 1024 * 1024, 32 * 1024


class Disconnected(Exception):
    """The server ended the connection; reason None: it just closed it."""

    def __init__(self, reason=None, text=''):
        super().__init__(f'reason {reason}: {text}' if reason is not None
                         else text or 'connection closed')
        self.reason, self.text = reason, text


class ProtocolError(Exception):
    """The server did what the protocol forbids."""


def byte(v):
    return bytes([v])


def u32(v):
    return struct.pack('>I', v & 0xffffffff)


def string(s):
    s = s.encode() if isinstance(s, str) else s
    return u32(len(s)) + s


def mpint(b):
    b = b.lstrip(b'\0')
    return string(b'\0' + b if b and b[0] & 0x80 else b)


class Reader:
    """The fields of a payload, from its second byte on."""

    def __init__(self, payload, at=1):
        self.b, self.at = payload, at

    def take(self, n):
        if self.at + n > len(self.b):
            raise ProtocolError(f'message {self.b[:1].hex()} is too short')
        self.at += n
        return self.b[self.at - n:self.at]

    def byte(self):
        return self.take(1)[0]

    def u32(self):
        return struct.unpack('>I', self.take(4))[0]

    def string(self):
        return self.take(self.u32())

    def names(self):
        return self.string().decode().split(',')

    def left(self):
        return len(self.b) - self.at


class Key:
    """An ed25519 key: from a file, or a new one."""

    def __init__(self, path=None):
        if path is None:
            self.private = ed25519.Ed25519PrivateKey.generate()
        else:
            with open(path, 'rb') as f:
                self.private = load_ssh_private_key(f.read(), None)
        raw = self.private.public_key().public_bytes(Encoding.Raw,
                                                     PublicFormat.Raw)
        self.blob = string('ssh-ed25519') + string(raw)

    def sign(self, data):
        return string('ssh-ed25519') + string(self.private.sign(data))


class Direction:
    """Cipher and sequence number of one way."""

    def __init__(self):
        self.seq, self.packets, self.bytes = 0, 0, 0
        self.cipher = Clear()

    def count(self, n):
        self.seq = (self.seq + 1) & 0xffffffff
        self.packets += 1
        self.bytes += n


class Channel:
    """What an accepted open told: numbers, and the server's window."""

    def __init__(self, local, remote, window, packet):
        self.local, self.remote = local, remote
        self.window, self.packet = window, packet


class Client:
    """strict: offer strict-kex. rekey: answer the server's. mode: of MODES,
    the only one offered. lists: name-lists of KEXINIT, by index, instead of
    ours. Payloads that recv() takes for itself are counted in seen."""

    def __init__(self, addr, port, user='root', keyfile=None, strict=True,
                 rekey=True, mode='ctr-etm', lists=None,
                 version=b'SSH-2.0-hostile_1', rcvbuf=None):
        self.addr, self.port, self.user = addr, port, user
        self.key = Key(keyfile) if keyfile else None
        self.strict, self.answer_rekey = strict, rekey
        self.mode, self.lists = MODES[mode], lists or {}
        self.guess = False   # first_kex_packet_follows of our KEXINIT
        self.held = None     # what hold() keeps back
        self.version, self.rcvbuf = version, rcvbuf
        self.sock = None
        self.buf = b''
        self.out, self.inp = Direction(), Direction()
        self.session_id = None
        self.server_version = None
        self.kexinit = self.server_kexinit = self.private = None
        self.kex = 'curve25519-sha256'  # of the next exchange
        self.strict_on = False
        self.ready = []      # payloads read ahead during a key exchange
        self.seen = {}       # message number -> how many
        self.debug, self.banner, self.ext_info = [], b'', {}
        self.next_channel = 0
        self.kexes = 0
        self.answer_global = True

    # Bytes.

    def open_socket(self):
        self.sock = socket.socket(socket.AF_INET6 if ':' in self.addr
                                  else socket.AF_INET)
        if self.rcvbuf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF,
                                 self.rcvbuf)
        self.sock.settimeout(30)
        self.sock.connect((self.addr, self.port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self):
        if self.sock:
            self.sock.close()
        self.sock = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def write(self, data, timeout=30):
        """Raw bytes. TimeoutError: the server does not take them."""
        if self.held is not None:
            self.held += data
            return
        self.sock.settimeout(timeout)
        try:
            self.sock.sendall(data)
        except socket.timeout:
            raise TimeoutError('the server does not read') from None
        except OSError as e:
            raise self.why_gone(e) from None

    def hold(self):
        """Keep what is written until release(): then it is one write."""
        self.held = b''

    def release(self):
        data, self.held = self.held, None
        self.write(data)

    def why_gone(self, error):
        """What the server said before it closed, if it can still be read."""
        try:
            while True:
                self.recv(0.5)
        except Disconnected as e:
            return e
        except (TimeoutError, ProtocolError, OSError):
            return Disconnected(text=str(error))

    def fill(self, n, deadline):
        while len(self.buf) < n:
            wait = max(0, deadline - time.monotonic())
            if not select.select([self.sock], [], [], wait)[0]:
                raise TimeoutError('nothing from the server')
            try:
                data = self.sock.recv(1 << 18)
            except ConnectionError as e:
                raise Disconnected(text=str(e)) from None
            if not data:
                raise Disconnected()
            self.buf += data

    # Packets.

    def pack(self, payload, pad=None):
        """One packet, encrypted; the caller must send it, in this order. pad:
        the length of the padding that it says, whatever it has."""
        d = self.out
        n = -(5 + len(payload) - d.cipher.skip) % d.cipher.block
        n += d.cipher.block if n < 4 else 0
        body = byte(n if pad is None else pad) + payload + os.urandom(n)
        sealed = d.cipher.seal(d.seq, u32(len(body)) + body)
        d.count(len(sealed))
        return sealed

    def send(self, *payloads, timeout=30):
        self.write(b''.join(self.pack(p) for p in payloads), timeout)

    def unpack(self, deadline):
        d, c = self.inp, self.inp.cipher
        self.fill(c.first, deadline)
        length = c.length(d.seq, self.buf[:c.first])
        if not 2 <= length <= 1 << 20:
            raise ProtocolError(f'packet length {length}')
        end = 4 + length
        self.fill(end + c.tag, deadline)
        plain = c.open(d.seq, self.buf[:end], self.buf[end:end + c.tag])
        if plain is None:
            raise ProtocolError('bad MAC')
        self.buf = self.buf[end + c.tag:]
        d.count(end + c.tag)
        if plain[4] + 1 > length:
            raise ProtocolError('padding longer than the packet')
        return plain[5:end - plain[4]]

    def recv_raw(self, timeout=10):
        """The next payload, whatever it is; DISCONNECT is raised."""
        payload = self.unpack(time.monotonic() + timeout)
        if not payload:
            raise ProtocolError('empty payload')
        self.seen[payload[0]] = self.seen.get(payload[0], 0) + 1
        if payload[0] == DISCONNECT:
            r = Reader(payload)
            raise Disconnected(r.u32(), r.string().decode(errors='replace'))
        return payload

    def recv(self, timeout=10):
        """The next payload that is not the transport's own business."""
        deadline = time.monotonic() + timeout
        while True:
            p = self.ready.pop(0) if self.ready else \
                self.recv_raw(max(0, deadline - time.monotonic()))
            r = Reader(p)
            if p[0] == DEBUG:
                r.byte()
                self.debug.append(r.string())
            elif p[0] == USERAUTH_BANNER:
                self.banner += r.string()
            elif p[0] == EXT_INFO:
                for _ in range(r.u32()):
                    name = r.string().decode()
                    self.ext_info[name] = r.string()
            elif p[0] == KEXINIT and self.answer_rekey:
                self.send_kexinit()
                self.finish_kex(p)
            elif p[0] == GLOBAL_REQUEST:
                # Its host keys, its keepalives.
                r.string()
                if r.byte() and self.answer_global:
                    self.send(byte(REQUEST_FAILURE))
            elif p[0] != IGNORE:
                return p

    def expect(self, *types, timeout=10):
        p = self.recv(timeout)
        if p[0] not in types:
            raise ProtocolError(f'message {p[0]} where {types} was due')
        return p

    # Key exchange.

    def make_kexinit(self):
        kex = [self.kex, 'ext-info-c']
        if self.strict:
            kex.append('kex-strict-c-v00@openssh.com')
        cipher, mac, _ = self.mode
        lists = [','.join(kex), 'ssh-ed25519', cipher, cipher, mac, mac,
                 'none', 'none', '', '']
        for i, names in self.lists.items():
            lists[i] = names
        self.kexinit = (byte(KEXINIT) + os.urandom(16) +
                        b''.join(string(s) for s in lists) +
                        byte(self.guess) + u32(0))
        return self.kexinit

    def make_ecdh_init(self):
        curve = KEX[self.kex][0]
        self.private = (ec.generate_private_key(curve()) if curve
                        else x25519.X25519PrivateKey.generate())
        return byte(KEX_ECDH_INIT) + string(self.public())

    def public(self):
        if KEX[self.kex][0]:
            how = Encoding.X962, PublicFormat.UncompressedPoint
        else:
            how = Encoding.Raw, PublicFormat.Raw
        return self.private.public_key().public_bytes(*how)

    def shared(self, server_public):
        curve = KEX[self.kex][0]
        if curve:
            return self.private.exchange(
                ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(
                    curve(), server_public))
        return self.private.exchange(
            x25519.X25519PublicKey.from_public_bytes(server_public))

    def hash(self, data):
        return hashlib.new(KEX[self.kex][1], data).digest()

    def send_kexinit(self):
        self.send(self.make_kexinit())

    def read_version(self, timeout=10):
        deadline = time.monotonic() + timeout
        while True:
            while b'\n' not in self.buf:
                self.fill(len(self.buf) + 1, deadline)
            line, self.buf = self.buf.split(b'\n', 1)
            if line.startswith(b'SSH-'):
                self.server_version = line.rstrip(b'\r')
                return self.server_version

    def connect(self, timeout=30):
        """Up to and including the accepted ssh-userauth service."""
        self.open_socket()
        self.write(self.version + b'\r\n')
        self.read_version(timeout)
        self.send_kexinit()
        self.finish_kex(None, timeout)
        self.request_service()

    def request_service(self, name='ssh-userauth'):
        self.send(byte(SERVICE_REQUEST) + string(name))
        self.expect(SERVICE_ACCEPT)

    def rekey(self, timeout=30):
        self.send_kexinit()
        self.finish_kex(None, timeout)

    def kex_recv(self, wanted, deadline):
        while True:
            p = self.recv_raw(max(0, deadline - time.monotonic()))
            if p[0] == wanted:
                return p
            if self.session_id is None and self.strict_on:
                raise ProtocolError(f'message {p[0]} in strict kex')
            if p[0] >= 50:
                self.ready.append(p)

    def finish_kex(self, server_kexinit=None, timeout=30, init_sent=False):
        """Our KEXINIT is out; the rest. init_sent: ECDH_INIT too."""
        deadline = time.monotonic() + timeout
        p = server_kexinit or self.kex_recv(KEXINIT, deadline)
        self.server_kexinit = p
        if self.session_id is None:
            names = Reader(p, 17).names()
            self.strict_on = (self.strict and
                              'kex-strict-s-v00@openssh.com' in names)
        if not init_sent:
            self.send(self.make_ecdh_init())
        r = Reader(self.kex_recv(KEX_ECDH_REPLY, deadline))
        host_key, server_public, signature = r.string(), r.string(), \
            r.string()
        shared = self.shared(server_public)
        h = self.hash(
            string(self.version) + string(self.server_version) +
            string(self.kexinit) + string(p) + string(host_key) +
            string(self.public()) + string(server_public) +
            mpint(shared))
        self.check_host_key(host_key, signature, h)
        if self.session_id is None:
            self.session_id = h
        self.send(byte(NEWKEYS))
        self.switch(self.out, shared, h, b'A', b'C', b'E')
        self.kex_recv(NEWKEYS, deadline)
        self.switch(self.inp, shared, h, b'B', b'D', b'F')
        self.kexes += 1

    def check_host_key(self, blob, signature, h):
        r, s = Reader(blob, 0), Reader(signature, 0)
        if r.string() != b'ssh-ed25519' or s.string() != b'ssh-ed25519':
            raise ProtocolError('host key is not ssh-ed25519')
        try:
            ed25519.Ed25519PublicKey.from_public_bytes(
                r.string()).verify(s.string(), h)
        except InvalidSignature:
            raise ProtocolError('bad signature of the host key') from None
        self.host_key = blob

    def switch(self, d, shared, h, iv, key, mac):
        def derive(letter, n):  # RFC 4253, 7.2
            known = mpint(shared) + h
            got = self.hash(known + letter + self.session_id)
            while len(got) < n:
                got += self.hash(known + got)
            return got[:n]
        kind = self.mode[2]
        d.cipher = kind(derive(key, kind.key_len), derive(iv, kind.iv_len),
                        derive(mac, 32))
        if self.strict_on:
            d.seq = 0

    # Authentication.

    def auth_request(self, method, rest=b'', user=None,
                     service='ssh-connection'):
        user = self.user if user is None else user
        return (byte(USERAUTH_REQUEST) + string(user) + string(service) +
                string(method) + rest)

    def auth_publickey(self, key=None, user=None, service='ssh-connection',
                       session_id=None, signer=None):
        """A publickey request. signer: who really signs it."""
        key = key or self.key
        body = self.auth_request(
            'publickey', byte(1) + string('ssh-ed25519') + string(key.blob),
            user, service)
        signature = (signer or key).sign(
            string(session_id or self.session_id) + body)
        return body + string(signature)

    def auth(self, **how):
        """True if the server lets us in; see auth_publickey()."""
        self.send(self.auth_publickey(**how))
        return self.expect(USERAUTH_SUCCESS,
                           USERAUTH_FAILURE)[0] == USERAUTH_SUCCESS

    # Channels.

    def number(self):
        self.next_channel += 1
        return self.next_channel - 1

    def open_request(self, kind, rest=b'', window=WINDOW, packet=PACKET,
                     number=None):
        if number is None:
            number = self.number()
        return (byte(OPEN) + string(kind) + u32(number) + u32(window) +
                u32(packet) + rest)

    def direct_request(self, host, port, origin='127.0.0.1',
                       origin_port=40000, **how):
        return self.open_request(
            'direct-tcpip', string(host) + u32(port) + string(origin) +
            u32(origin_port), **how)

    def opened(self, timeout=10):
        """The answer to an open: a Channel, or (reason, text)."""
        p = self.expect(OPEN_CONFIRMATION, OPEN_FAILURE, timeout=timeout)
        r = Reader(p)
        if p[0] == OPEN_FAILURE:
            r.u32()
            reason = r.u32()
            return reason, r.string().decode(errors='replace')
        return Channel(r.u32(), r.u32(), r.u32(), r.u32())

    def open_direct(self, host, port, timeout=10, **how):
        self.send(self.direct_request(host, port, **how))
        return self.opened(timeout)

    def global_request(self, name, rest=b'', want_reply=True):
        return (byte(GLOBAL_REQUEST) + string(name) + byte(want_reply) + rest)

    def barrier(self, timeout=10):
        """Everything sent so far was seen: the server answers in order."""
        self.send(self.global_request('barrier@hostile'))
        while self.recv(timeout)[0] not in (REQUEST_SUCCESS, REQUEST_FAILURE):
            pass


def data(chan, content):
    return byte(DATA) + u32(chan) + string(content)


def on_channel(kind, chan, rest=b''):
    return byte(kind) + u32(chan) + rest
