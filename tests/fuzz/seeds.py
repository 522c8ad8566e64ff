#!/usr/bin/python3
"""seeds.py FOLDER: the seeds of fuzz_claim, which have to be signed. The keys
are forgotten, so each run makes other ones."""
import hashlib
import os
import struct
import sys

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import (
    ec, ed25519, padding, rsa, utils)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PLAIN = 'publickey'
HOSTBOUND = 'publickey-hostbound-v00@openssh.com'
HOSTKEY = b'\0\0\0\x0bssh-ed25519\0\0\0\x20' + b'h' * 32
TOUCH, VERIFY = 1, 4
CURVES = {'nistp256': (ec.SECP256R1, hashes.SHA256),
          'nistp384': (ec.SECP384R1, hashes.SHA384),
          'nistp521': (ec.SECP521R1, hashes.SHA512)}


def string(b):
    b = b.encode() if isinstance(b, str) else b
    return struct.pack('>I', len(b)) + b


def short(b):
    b = b.encode() if isinstance(b, str) else b
    return struct.pack('>H', len(b)) + b


def mpint(n):
    return string(n.to_bytes(n.bit_length() // 8 + 1, 'big') if n else b'')


class Ed25519:
    def __init__(self, algorithm):
        self.key = ed25519.Ed25519PrivateKey.generate()
        self.blob = string(algorithm) + string(
            self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    def sign(self, data):
        return self.key.sign(data)


class Ecdsa:
    def __init__(self, algorithm):
        name = algorithm.partition('@')[0].rpartition('-')[2]
        curve, self.digest = CURVES[name]
        self.key = ec.generate_private_key(curve())
        self.blob = string(algorithm) + string(name) + string(
            self.key.public_key().public_bytes(
                Encoding.X962, PublicFormat.UncompressedPoint))

    def sign(self, data):
        r, s = utils.decode_dss_signature(
            self.key.sign(data, ec.ECDSA(self.digest())))
        return mpint(r) + mpint(s)


class Rsa:
    def __init__(self, algorithm, bits=2048):
        self.digest = hashes.SHA256 if '256' in algorithm else hashes.SHA512
        self.key = rsa.generate_private_key(65537, bits)
        n = self.key.public_key().public_numbers()
        self.blob = string('ssh-rsa') + mpint(n.e) + mpint(n.n)

    def sign(self, data):
        return self.key.sign(data, padding.PKCS1v15(), self.digest())


def claim(algorithm, method, key, sk=None, need=TOUCH, inside=None):
    """sk: the flags of a FIDO signature. inside: the algorithm that the
    signature names, if it is another."""
    session_id, user = b's' * 32, 'alice'
    if sk is not None:
        key.blob += string('ssh:')
    data = (string(session_id) + b'\x32' + string(user) +
            string('ssh-connection') + string(method) + b'\1' +
            string(algorithm) + string(key.blob))
    if method == HOSTBOUND:
        data += string(HOSTKEY)
    tail = b''
    if sk is not None:
        tail = struct.pack('>BI', sk, 7)
        data = (hashlib.sha256(b'ssh:').digest() + tail +
                hashlib.sha256(data).digest())
    sig = string(inside or algorithm) + string(key.sign(data)) + tail
    return bytes([need]) + b''.join(short(x) for x in (
        session_id, user, method, algorithm, key.blob, HOSTKEY, sig))


def seeds():
    ed, sk_ed = 'ssh-ed25519', 'sk-ssh-ed25519@openssh.com'
    sk_ec = 'sk-ecdsa-sha2-nistp256@openssh.com'
    yield 'ed25519', claim(ed, PLAIN, Ed25519(ed))
    yield 'ed25519-hostbound', claim(ed, HOSTBOUND, Ed25519(ed))
    for curve in CURVES:
        name = 'ecdsa-sha2-' + curve
        yield curve, claim(name, PLAIN, Ecdsa(name))
        yield curve + '-hostbound', claim(name, HOSTBOUND, Ecdsa(name))
    for name in 'rsa-sha2-256', 'rsa-sha2-512':
        for bits in 2048, 3072:
            yield f'{name}-{bits}', claim(name, PLAIN, Rsa(name, bits))
    yield 'rsa-small', claim('rsa-sha2-256', PLAIN, Rsa('rsa-sha2-256', 1024))
    yield 'rsa-sha1-name', claim('ssh-rsa', PLAIN, Rsa('rsa-sha2-256'))
    yield 'rsa-other-digest', claim('rsa-sha2-512', PLAIN,
                                    Rsa('rsa-sha2-512'), None, TOUCH,
                                    'rsa-sha2-256')
    for flags in 0, 1, 4, 5:
        yield f'sk-ed25519-{flags}', claim(sk_ed, PLAIN, Ed25519(sk_ed), flags)
        yield f'sk-ecdsa-{flags}', claim(sk_ec, HOSTBOUND, Ecdsa(sk_ec), flags)
    yield 'sk-ed25519-verify', claim(sk_ed, PLAIN, Ed25519(sk_ed), 5,
                                     TOUCH | VERIFY)
    yield 'sk-ecdsa-verify', claim(sk_ec, PLAIN, Ecdsa(sk_ec), 1, VERIFY)
    yield 'other-method', claim(ed, 'password', Ed25519(ed))
    longer = claim(ed, PLAIN, Ed25519(ed))
    at = longer.rindex(b'\0\x53')
    yield 'ed25519-longer', (longer[:at] + b'\0\x54' + longer[at + 2:] +
                             b'\0')


def main():
    for name, data in seeds():
        with open(os.path.join(sys.argv[1], name), 'wb') as f:
            f.write(data)


main()
