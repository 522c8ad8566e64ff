"""Packet protection for ssh_minimal: one object a direction.

seal() makes a packet of a plain one; length() tells the length field from the
first bytes, open() returns the plain packet, or None if the tag is wrong. seq
is the sequence number; a packet is its length field and what that counts.
"""
import hashlib
import hmac
import struct

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.poly1305 import Poly1305


def field(b):
    return struct.unpack('>I', b[:4])[0]


class Clear:
    """Before the first NEWKEYS."""
    block, skip, first, tag = 8, 0, 4, 0  # skip: bytes that padding ignores

    def seal(self, seq, packet):
        return packet

    def length(self, seq, first):
        return field(first)

    def open(self, seq, packet, tag):
        return packet


class Ctr:
    """aes128-ctr and hmac-sha2-256, the MAC of the plain packet."""
    block, skip, first, tag = 16, 0, 16, 32
    key_len, iv_len = 16, 16

    def __init__(self, key, iv, mac_key):
        # Counter mode: one way to encrypt and to decrypt.
        self.crypt = Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor()
        self.mac_key, self.head = mac_key, None

    def mac(self, seq, data):
        return hmac.digest(self.mac_key, struct.pack('>I', seq) + data,
                           hashlib.sha256)

    def seal(self, seq, packet):
        return self.crypt.update(packet) + self.mac(seq, packet)

    def length(self, seq, first):
        if self.head is None:  # not twice the same block
            self.head = self.crypt.update(first)
        return field(self.head)

    def open(self, seq, packet, tag):
        plain, self.head = self.head + self.crypt.update(packet[16:]), None
        return plain if hmac.compare_digest(self.mac(seq, plain), tag) \
            else None


class CtrEtm(Ctr):
    """The same, the MAC of what is sent."""
    skip, first = 4, 4

    def seal(self, seq, packet):
        sealed = packet[:4] + self.crypt.update(packet[4:])
        return sealed + self.mac(seq, sealed)

    def length(self, seq, first):
        return field(first)

    def open(self, seq, packet, tag):
        if not hmac.compare_digest(self.mac(seq, packet), tag):
            return None
        return packet[:4] + self.crypt.update(packet[4:])


class Gcm:
    """aes128-gcm@openssh.com (RFC 5647): a counter of its own, no seq."""
    block, skip, first, tag = 16, 4, 4, 16
    key_len, iv_len = 16, 12

    def __init__(self, key, iv, mac_key):
        self.aead, self.fixed = AESGCM(key), iv[:4]
        self.counter = int.from_bytes(iv[4:], 'big')

    def nonce(self):
        n = self.fixed + self.counter.to_bytes(8, 'big')
        self.counter = (self.counter + 1) % (1 << 64)
        return n

    def seal(self, seq, packet):
        return packet[:4] + self.aead.encrypt(self.nonce(), packet[4:],
                                              packet[:4])

    def length(self, seq, first):
        return field(first)

    def open(self, seq, packet, tag):
        try:
            return packet[:4] + self.aead.decrypt(
                self.nonce(), packet[4:] + tag, packet[:4])
        except InvalidTag:
            return None


class ChaCha:
    """chacha20-poly1305@openssh.com: the nonce is the sequence number."""
    block, skip, first, tag = 8, 4, 4, 16
    key_len, iv_len = 64, 0

    def __init__(self, key, iv, mac_key):
        self.main, self.header = key[:32], key[32:]

    def stream(self, key, seq, block):
        nonce = block.to_bytes(8, 'little') + seq.to_bytes(8, 'big')
        return Cipher(algorithms.ChaCha20(key, nonce), None).encryptor()

    def poly_key(self, seq):
        return self.stream(self.main, seq, 0).update(bytes(32))

    def seal(self, seq, packet):
        sealed = self.stream(self.header, seq, 0).update(packet[:4]) + \
            self.stream(self.main, seq, 1).update(packet[4:])
        return sealed + Poly1305.generate_tag(self.poly_key(seq), sealed)

    def length(self, seq, first):
        return field(self.stream(self.header, seq, 0).update(first))

    def open(self, seq, packet, tag):
        try:
            Poly1305.verify_tag(self.poly_key(seq), packet, tag)
        except InvalidSignature:
            return None
        return self.stream(self.header, seq, 0).update(packet[:4]) + \
            self.stream(self.main, seq, 1).update(packet[4:])


# What a client can offer: cipher, MAC, its class.
MODES = {
    'ctr': ('aes128-ctr', 'hmac-sha2-256', Ctr),
    'ctr-etm': ('aes128-ctr', 'hmac-sha2-256-etm@openssh.com', CtrEtm),
    'gcm': ('aes128-gcm@openssh.com', 'hmac-sha2-256', Gcm),
    'chacha': ('chacha20-poly1305@openssh.com', 'hmac-sha2-256', ChaCha),
}
