"""Keys of every type, FIDO ones in software, and their SSH signatures."""
import base64
import hashlib

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import (ec, ed25519, padding,
                                                       rsa)
from cryptography.hazmat.primitives.asymmetric.utils import \
    decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding, PublicFormat, load_ssh_private_key)

from ssh_minimal import mpint, string, u32

APPLICATION = b'ssh:'
CURVES = {'256': (ec.SECP256R1, hashes.SHA256),
          '384': (ec.SECP384R1, hashes.SHA384),
          '521': (ec.SECP521R1, hashes.SHA512)}
RSA_HASHES = {'ssh-rsa': hashes.SHA1, 'rsa-sha2-256': hashes.SHA256,
              'rsa-sha2-512': hashes.SHA512}


class Ed25519:
    kind = 'ssh-ed25519'

    def __init__(self, path=None):
        self.key = ed25519.Ed25519PrivateKey.generate()
        if path:
            with open(path, 'rb') as f:
                self.key = load_ssh_private_key(f.read(), None)
        self.public = self.key.public_key().public_bytes(Encoding.Raw,
                                                         PublicFormat.Raw)
        self.blob = string(self.kind) + string(self.public)
        self.algorithm = self.kind

    def raw(self, data):
        return self.key.sign(data)

    def sign(self, data, algorithm=None):
        return string(algorithm or self.algorithm) + string(self.raw(data))

    def line(self, options=''):
        text = base64.b64encode(self.blob).decode()
        return f'{options} {self.kind} {text}\n'.lstrip()


class Ecdsa(Ed25519):
    def __init__(self, bits='256'):
        curve, self.hash = CURVES[bits]
        self.kind = self.algorithm = f'ecdsa-sha2-nistp{bits}'
        self.key = ec.generate_private_key(curve())
        self.public = self.key.public_key().public_bytes(
            Encoding.X962, PublicFormat.UncompressedPoint)
        self.blob = (string(self.kind) + string(f'nistp{bits}') +
                     string(self.public))

    def raw(self, data):
        r, s = decode_dss_signature(self.key.sign(data,
                                                  ec.ECDSA(self.hash())))
        return b''.join(mpint(n.to_bytes(68, 'big')) for n in (r, s))


class Rsa(Ed25519):
    kind = 'ssh-rsa'

    def __init__(self, bits=2048):
        self.key = rsa.generate_private_key(65537, bits)
        n = self.key.public_key().public_numbers().n
        self.blob = (string(self.kind) + mpint(b'\1\0\1') +
                     mpint(n.to_bytes(bits // 8, 'big')))
        self.algorithm = 'rsa-sha2-512'

    def sign(self, data, algorithm=None, digest=None):
        """algorithm as it is said; digest, of which it is, if another."""
        algorithm = algorithm or self.algorithm
        done = self.key.sign(data, padding.PKCS1v15(),
                             RSA_HASHES[digest or algorithm]())
        return string(algorithm) + string(done)


class Fido:
    """What an authenticator does: flags and a counter are signed, too."""
    flags = 1  # touched

    def signed(self, data, flags):
        return (hashlib.sha256(APPLICATION).digest() + bytes([flags]) +
                u32(7) + hashlib.sha256(data).digest())

    def sign(self, data, algorithm=None, flags=None, claimed=None):
        flags = self.flags if flags is None else flags
        claimed = flags if claimed is None else claimed
        return (string(algorithm or self.algorithm) +
                string(self.raw(self.signed(data, flags))) +
                bytes([claimed]) + u32(7))


class FidoEd25519(Fido, Ed25519):
    kind = 'sk-ssh-ed25519@openssh.com'

    def __init__(self):
        Ed25519.__init__(self)
        self.blob += string(APPLICATION)


class FidoEcdsa(Fido, Ecdsa):
    def __init__(self):
        Ecdsa.__init__(self)
        self.kind = self.algorithm = 'sk-ecdsa-sha2-nistp256@openssh.com'
        self.blob = (string(self.kind) + string('nistp256') +
                     string(self.public) + string(APPLICATION))
