"""Certificates by ssh-keygen, and a client that signs with any of its keys."""
import base64
import hashlib
import os

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import \
    decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding, PublicFormat, load_ssh_private_key)

from harness import TOP, USER, keygen, sh
from minimal import ssh

SUFFIX = '-cert-v01@openssh.com'


def certify(ca, key, *options, principals=USER, identity='who', serial=7):
    """Have ca sign key.pub, as key-cert.pub. principals None: none at all."""
    names = ('-n', principals) if principals is not None else ()
    sh('ssh-keygen', '-q', '-s', f'{TOP}/{ca}', '-I', identity, '-z',
       str(serial), *names, *options, f'{TOP}/{key}.pub')


def holder(name, ca='ca', *options, **kw):
    """A new key with a certificate by ca."""
    if not os.path.exists(f'{TOP}/{name}'):
        keygen(name)
    certify(ca, name, *options, **kw)
    return name


def blob(path):
    """The bytes of a public key or certificate file."""
    with open(path) as f:
        return base64.b64decode(f.read().split()[1])


def number(n):
    return ssh.mpint(n.to_bytes((n.bit_length() + 7) // 8, 'big'))


class Signer:
    """A private key of a file, and the certificate beside it, if wanted."""

    def __init__(self, name, cert=False):
        with open(f'{TOP}/{name}', 'rb') as f:
            self.private = load_ssh_private_key(f.read(), None)
        self.blob = blob(f'{TOP}/{name}{"-cert" if cert else ""}.pub')
        self.type = ssh.Reader(self.blob, 0).string().decode()
        self.algorithm = self.type

    def sign(self, data):
        k = self.private
        if isinstance(k, rsa.RSAPrivateKey):
            digest = hashes.SHA1() if 'sha2' not in self.algorithm else \
                hashes.SHA256() if '256' in self.algorithm else hashes.SHA512()
            raw = k.sign(data, padding.PKCS1v15(), digest)
        elif isinstance(k, ec.EllipticCurvePrivateKey):
            digest = {256: hashes.SHA256, 384: hashes.SHA384,
                      521: hashes.SHA512}[k.curve.key_size]()
            r, s = decode_dss_signature(k.sign(data, ec.ECDSA(digest)))
            raw = number(r) + number(s)
        else:
            raw = k.sign(data)
        plain = self.algorithm.replace(SUFFIX, '')
        return ssh.string(plain) + ssh.string(raw)


class Authenticator:
    """A FIDO authenticator in software: ed25519 or ecdsa (PROTOCOL.u2f)."""

    def __init__(self, name, ecdsa=False, flags=1):
        self.name, self.ecdsa, self.flags, self.count = name, ecdsa, flags, 1
        if ecdsa:
            self.private = ec.generate_private_key(ec.SECP256R1())
            public = self.private.public_key().public_bytes(
                Encoding.X962, PublicFormat.UncompressedPoint)
            self.plain = 'sk-ecdsa-sha2-nistp256@openssh.com'
            fields = ssh.string('nistp256') + ssh.string(public)
        else:
            self.private = ed25519.Ed25519PrivateKey.generate()
            public = self.private.public_key().public_bytes(
                Encoding.Raw, PublicFormat.Raw)
            self.plain = 'sk-ssh-ed25519@openssh.com'
            fields = ssh.string(public)
        self.algorithm = self.type = self.plain
        self.blob = ssh.string(self.plain) + fields + ssh.string('ssh:')
        with open(f'{TOP}/{name}.pub', 'w') as f:
            f.write(f'{self.plain} '
                    f'{base64.b64encode(self.blob).decode()} '
                    f'{name}\n')

    def take_certificate(self):
        self.blob = blob(f'{TOP}/{self.name}-cert.pub')
        self.algorithm = self.type = \
            ssh.Reader(self.blob, 0).string().decode()

    def sign(self, data):
        self.count += 1
        tail = ssh.byte(self.flags) + ssh.u32(self.count)
        signed = (hashlib.sha256(b'ssh:').digest() + tail +
                  hashlib.sha256(data).digest())
        if self.ecdsa:
            r, s = decode_dss_signature(
                self.private.sign(signed, ec.ECDSA(hashes.SHA256())))
            raw = number(r) + number(s)
        else:
            raw = self.private.sign(signed)
        return ssh.string(self.plain) + ssh.string(raw) + tail


def request(client, key, user=None, blob_=None, algorithm=None, signed=None):
    """A publickey request of client by key; each part may be another's."""
    blob_ = key.blob if blob_ is None else blob_
    algorithm = algorithm or key.algorithm
    body = client.auth_request(
        'publickey', ssh.byte(1) + ssh.string(algorithm) + ssh.string(blob_),
        user)
    return body + ssh.string(key.sign(ssh.string(client.session_id) +
                                      (signed or body)))


def answer(client, payload):
    """'success', 'failure', 'partial', or 'gone'."""
    try:
        client.send(payload)
        p = client.expect(ssh.USERAUTH_SUCCESS, ssh.USERAUTH_FAILURE,
                          ssh.USERAUTH_PK_OK)
    except ssh.Disconnected:
        return 'gone'
    if p[0] == ssh.USERAUTH_PK_OK:
        return 'known'
    if p[0] == ssh.USERAUTH_SUCCESS:
        return 'success'
    return 'partial' if p[-1] else 'failure'
