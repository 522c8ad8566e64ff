"""The tunnels that are compared: a server on the one host, its client on the
other, a tun device on both, each as its package has it."""
import json
import os
import subprocess

import outcome
from lab import (ADDRESS, TOP, Failure, Process, on, program, run, wait_for)

CIPHER = 'aes128-gcm@openssh.com'
SSH_SERVER = f'''HostKey {TOP}/host_key
PidFile none
AuthorizedKeysFile {TOP}/key.pub
StrictModes no
PermitRootLogin yes
PermitTunnel point-to-point
'''
OPENVPN = f'''dev-type tun
topology subnet
ca {TOP}/ca.crt
data-ciphers AES-128-GCM
verb 3
'''


class Peer:
    """One tunnel. unit: which one of this bench's, for ports and names."""

    def __init__(self, name, unit, link, mtu=1500, forward=()):
        self.name, self.unit, self.link, self.mtu = name, unit, link, mtu
        self.forward = forward  # for -L: (client's port, server's port) ...
        self.device, self.port = f'tun{unit}', 2200 + unit
        self.address = {'server': f'10.9.{unit}.1',
                        'client': f'10.9.{unit}.2'}
        self.processes = []

    def spawn(self, what, *argv, host):
        self.processes.append(Process(f'{self.name}-{what}', *argv,
                                      host=host))
        return self.processes[-1]

    def start(self):
        self.server = self.start_server()
        self.wait(self.listens, 'its server does not listen')
        host, port = ADDRESS['server'], self.port
        if self.link.delay_ms:
            host, port = self.start_relay()
        self.start_client(host, port)

    def finish(self):
        """What start() started is there."""
        self.wait(self.configure, 'there is no tunnel')
        self.wait(self.answers, 'no ping comes back')

    def start_relay(self):
        p = self.spawn('relay', self.link.relay, self.proto, self.port,
                       ADDRESS['server'], self.port, self.link.delay_ms / 2,
                       host='client')
        self.wait(lambda: 'ready' in p.log(), 'the relay does not start')
        return '127.0.0.1', self.port

    def wait(self, fn, what):
        def said():
            return f'{self.name}: {what}:\n' + ''.join(
                f'--- {p.name}\n{p.log()[-2000:]}\n' for p in self.processes)
        wait_for(lambda: all(p.alive() for p in self.processes) and fn(),
                 30, said)

    def listens(self):
        return run('ss', '-Hln', '--tcp' if self.proto == 'tcp' else '--udp',
                   'sport', '=', self.port, host='server').strip()

    def answers(self):
        argv = ['ping', '-n', '-c1', '-W1', self.address['server']]
        return subprocess.run(on('client', *argv),
                              stdin=subprocess.DEVNULL,
                              capture_output=True).returncode == 0

    def kind(self):
        """What drives the server's device: tun, or a module of the kernel's
        that keeps data away from the server's process."""
        link = json.loads(run('ip', '-n', 'server', '-d', '-j', 'link',
                              'show', 'dev', self.device))
        return link[0]['linkinfo']['info_kind']

    def stop(self):
        for p in reversed(self.processes):
            p.stop()


class Ssh(Peer):
    proto = 'tcp'

    def start_client(self, host, port):
        argv = ['ssh', '-F', '/dev/null', '-N', '-c', CIPHER,
                '-o', 'BatchMode=yes', '-o', 'IdentitiesOnly=yes',
                '-o', 'ExitOnForwardFailure=yes',
                '-o', f'UserKnownHostsFile={TOP}/known_hosts',
                '-o', 'StrictHostKeyChecking=accept-new',
                '-i', f'{TOP}/key', '-w', f'{self.unit}:{self.unit}']
        for near, far in self.forward:
            argv += ['-L', f'{near}:127.0.0.1:{far}']
        self.spawn('client', *argv, '-p', port, f'root@{host}', host='client')

    def configure(self):
        """Both devices, as soon as they are there."""
        both = [('server', 'client'), ('client', 'server')]
        if not all(self.device in run('ip', '-n', host, '-br', 'link')
                   for host, _ in both):
            return False
        for host, other in both:
            run('ip', '-n', host, 'link', 'set', self.device, 'mtu', self.mtu,
                'up')
            run('ip', '-n', host, 'addr', 'add', self.address[host], 'peer',
                self.address[other], 'dev', self.device)
        return True

    def serve(self, binary, more=''):
        path = f'{TOP}/{self.name}.conf'
        with open(path, 'w') as f:
            f.write(f'Port {self.port}\n{SSH_SERVER}{more}')
        return self.spawn('server', binary, '-D', '-e', '-f', path,
                          host='server')


class Adit(Ssh):
    def start_server(self):
        return self.serve(os.environ['ADITD'])


class Sshd(Ssh):
    def start_server(self):
        return self.serve(program('sshd', 'openssh-server'), 'UsePAM no\n')


class OpenVpn(Peer):
    def __init__(self, name, *args, **kw):
        super().__init__(name, *args, **kw)
        self.proto = name.split('-')[1]

    def run_openvpn(self, side, text, host):
        path = f'{TOP}/{self.name}-{side}.conf'
        with open(path, 'w') as f:
            f.write(f'{OPENVPN}{text}dev {self.device}\n'
                    f'cert {TOP}/{side}.crt\nkey {TOP}/{side}.key\n')
            if self.mtu != 1500:
                f.write(f'tun-mtu {self.mtu}\n')
        return self.spawn(side, program('openvpn', 'openvpn'), path,
                          host=host)

    def start_server(self):
        proto = 'tcp-server' if self.proto == 'tcp' else 'udp'
        return self.run_openvpn(
            'server', f'proto {proto}\nport {self.port}\ndh none\n'
            f'server 10.9.{self.unit}.0 255.255.255.0\n', 'server')

    def start_client(self, host, port):
        proto = 'tcp-client' if self.proto == 'tcp' else 'udp'
        self.run_openvpn(
            'client', f'client\nnobind\nproto {proto}\nremote {host} {port}\n'
            'remote-cert-tls server\n', 'client')

    def configure(self):
        return 'Initialization Sequence Completed' in self.processes[-1].log()


KINDS = {'adit': Adit, 'sshd': Sshd, 'openvpn-udp': OpenVpn,
         'openvpn-tcp': OpenVpn}


class Link:
    """What is between the hosts: nothing, or a relay that takes time."""

    def __init__(self, delay_ms=0, relay=None):
        self.delay_ms, self.relay = delay_ms, relay


def make_keys():
    """Throw-away keys of ssh, a CA and two certificates for OpenVPN."""
    for name in ('host_key', 'key'):
        run('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f',
            f'{TOP}/{name}')
    new = ['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt',
           'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2']
    run(*new, '-subj', '/CN=bench-ca', '-keyout', f'{TOP}/ca.key', '-out',
        f'{TOP}/ca.crt')
    for name in ('server', 'client'):
        run(*new, '-subj', f'/CN=bench-{name}', '-CA', f'{TOP}/ca.crt',
            '-CAkey', f'{TOP}/ca.key', '-keyout', f'{TOP}/{name}.key', '-out',
            f'{TOP}/{name}.crt', '-addext', 'basicConstraints=CA:FALSE',
            '-addext', 'keyUsage=digitalSignature',
            '-addext', f'extendedKeyUsage={name}Auth')


def check():
    """All that is compared must be there, before anything is measured."""
    for name, package in (
            ('sshd', 'openssh-server'), ('ssh', 'openssh-client'),
            ('openvpn', 'openvpn'), ('iperf3', 'iperf3'),
            ('openssl', 'openssl'), ('tc', 'iproute2'), ('ss', 'iproute2'),
            ('ping', 'iputils-ping'), ('ethtool', 'ethtool'),
            ('unshare', 'util-linux')):
        program(name, package)
    for name in ('ADITD', 'RELAY'):
        path = os.environ.get(name, '')
        if not os.access(path, os.X_OK):
            raise Failure(f'{name} is no program: {path!r} (make bench-tunnel '
                          'says where they are)')


def versions():
    first = outcome.first_line
    return {'adit': first(os.environ['ADITD'], '-V'),
            'ssh': first('ssh', '-V'),
            'openvpn': first(program('openvpn', 'openvpn'), '--version'),
            'iperf3': first('iperf3', '--version')}
