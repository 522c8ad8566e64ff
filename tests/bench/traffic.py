"""What goes through a tunnel, and what is measured of it."""
import hashlib
import json
import os
import random
import re
import socket
import statistics
import sys
import threading

from lab import ADDRESS, Failure, Inside, Process, cpu, run, wait_for

IPERF_PORT, VOICE_PORT = 5201, 5300
SERVERS = []  # iperf3, voice.py
HERE = os.path.dirname(os.path.abspath(__file__))


def start_servers():
    """What answers on the server's host, behind all the tunnels."""
    all_of = [Process('iperf3', 'iperf3', '-s', '-p', IPERF_PORT,
                      '--forceflush', host='server'),
              Process('voice', sys.executable, '-B', f'{HERE}/voice.py',
                      'echo', VOICE_PORT, host='server')]

    def ready():
        there = run('ss', '-Hltun', host='server')
        return all(p.alive() for p in all_of) and \
            all(f':{port} ' in there for port in (IPERF_PORT, VOICE_PORT))
    wait_for(ready, 10, 'iperf3 does not listen')
    SERVERS.extend(all_of)


def idle():
    """Is iperf3's server done with the last one? It serves one at a time."""
    said = SERVERS[0].log()
    return said.count('Server listening') > said.count('Accepted connection')


def iperf(host, amount, way, port=IPERF_PORT):
    wait_for(idle, 10, lambda: f'iperf3 is busy:\n{SERVERS[0].log()[-999:]}')
    return ['iperf3', '-c', host, '-p', port, '-J', *amount,
            *(['-R'] if way == 'down' else [])]


def received(text):
    """(bytes, Gbit/s) of iperf3's report."""
    try:
        total = json.loads(text)['end']['sum_received']
        rate = total['bits_per_second'] / 1e9
        if total['bytes'] <= 0 or rate <= 0:
            raise ValueError('nothing came')
    except (ValueError, KeyError) as e:
        raise Failure(f'iperf3: {e}:\n{text[-2000:]}') from None
    return total['bytes'], rate


def bulk(peer, way, amount):
    """One TCP flow; no part of it is left out, so that bytes and CPU are of
    the same."""
    before = cpu(peer.server.pid)
    got, rate = received(run(*iperf(peer.address['server'], amount, way),
                             host='client'))
    spent = cpu(peer.server.pid) - before
    return {'gbit_s': rate, 'cpu_s_gb': spent / (got / 1e9)}


def bare_link(link, way):
    """A second without a tunnel: what the bench itself can do."""
    host, port, relay = ADDRESS['server'], IPERF_PORT, None
    if link.delay_ms:
        host, port = '127.0.0.1', IPERF_PORT
        relay = Process('bare-relay', link.relay, 'tcp', port,
                        ADDRESS['server'], IPERF_PORT, link.delay_ms / 2,
                        host='client')
        wait_for(lambda: relay.alive() and 'ready' in relay.log(), 10,
                 'the relay does not start')
    rate = received(run(*iperf(host, ['-t', 1], way, port),
                        host='client'))[1]
    if relay:
        relay.stop()
    return rate


def ping(host, count, interval):
    """Round trips in milliseconds, and how many did not come back."""
    text = run('ping', '-n', '-i', interval, '-c', count, '-W', 2, host,
               host='client', check=False)
    trips = [float(t) for t in re.findall(r'time=([\d.]+)', text)]
    sent = re.search(r'(\d+) packets transmitted', text)
    if not trips or not sent:
        raise Failure(f'ping: {text[-2000:]}')
    return trips, int(sent[1]) - len(trips)


def quantile(values, q):
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(len(ranked) * q))]


def summary(trips, lost):
    return {'mean_ms': statistics.fmean(trips),
            'p50_ms': quantile(trips, .5), 'p99_ms': quantile(trips, .99),
            'sent': len(trips) + lost, 'lost': lost}


def carried(device):
    """Bytes that came and went on the client's device."""
    text = run('ip', '-n', 'client', '-s', '-j', 'link', 'show', 'dev', device)
    both = json.loads(text)[0]['stats64']
    return both['rx']['bytes'] + both['tx']['bytes']


def loaded_ping(peer, way, amount, pings):
    """Pings while a flow goes through the same tunnel."""
    before = carried(peer.device)
    argv = iperf(peer.address['server'], amount, way)
    flow = Process('flow', *argv, host='client')
    wait_for(lambda: flow.alive() and carried(peer.device) - before > 2 << 20,
             10, 'no flow')
    got = summary(*ping(peer.address['server'], pings, 0.01))
    received(flow.wait(60))
    return got


def beside_download(peer, seconds, pings):
    """A ping and a stream of 50 datagrams a second through the tunnel, while a
    download by -L in the same session fills the link."""
    before = carried('wire')
    argv = iperf('127.0.0.1', ['-t', seconds], 'down', peer.forward[0][0])
    flow = Process('download', *argv, host='client')
    wait_for(lambda: flow.alive() and carried('wire') - before > 8 << 20,
             20, 'no download')
    voice = Process('stream', sys.executable, '-B', f'{HERE}/voice.py',
                    'send', peer.address['server'], VOICE_PORT, pings,
                    host='client')
    got = {'ping': summary(*ping(peer.address['server'], pings, 0.02))}
    trips = json.loads(voice.wait(pings // 50 + 20))
    if not trips:
        raise Failure('no datagram came back')
    got['voice'] = summary(trips, pings - len(trips))
    got['download'] = {'mbit_s': received(flow.wait(seconds + 20))[1] * 1e3}
    return got


# The same bytes, in the same order?

def known_stream(size):
    return random.Random(1).randbytes(size)


def digest(s):
    h = hashlib.sha256()
    while data := s.recv(1 << 18):
        h.update(data)
    return h.hexdigest()


def check_stream(data, way, address, port, connect_to=None):
    """One TCP connection to the server's address and port (from the client, to
    connect_to if that is another), by which data goes up or down: what comes
    must be what was sent, by its SHA-256."""
    got = []

    def serve():
        s, _ = listener.accept()
        with s:
            s.settimeout(60)
            one_end(s, way == 'down')

    def one_end(s, sends):
        if sends:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            s.recv(1)
        else:
            got.append(digest(s))

    with Inside('server'):
        listener = socket.create_server((address, port))
    listener.settimeout(30)
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        with Inside('client'):
            s = socket.create_connection(connect_to or (address, port), 30)
        with s, listener:
            s.settimeout(60)
            one_end(s, way == 'up')
        thread.join(60)
    except OSError as e:
        got.append(str(e))
    want = hashlib.sha256(data).hexdigest()
    if got != [want]:
        raise Failure(f'{way} by {connect_to or address}: got {got}, not '
                      f'{want}: these bytes are not those that were sent')
    return want
