#!/usr/bin/python3
"""What is counted, by aditctl metrics; 94-metrics-http.py: by HTTP."""
import os
import re
import signal
import socket
import time

from counted import (CONTROL, become, counters, died, is_open, login, moved,
                     never_less, now, opens, refused)
from harness import (COMMS, SLOW, case, connect, keygen, main, processes,
                     talk, wait_for)


@case('a server without a client counts nothing', 'aditd')
def _(t):
    t.server(CONTROL)
    values = become({'adit_accepting': 1.0})
    for key, value in counters(values).items():
        started = key.startswith('adit_role_starts_total') and \
            not re.search('proxy|metrics|watcher', key)
        t.equal(value, 1.0 if started else 0.0, key)
    t.equal(values['adit_startups_limit'], 100.0)
    t.true(abs(values['adit_start_time_seconds'] - time.time()) < 60 * SLOW,
           'when it started')
    t.equal(sum(k.startswith('adit_build_info{version="') and
                v == 1.0 for k, v in values.items()), 1)


@case('what is done is counted, each thing once', 'aditd', timeout=120)
def _(t):
    echo, denied = t.target(), t.target()
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        closed = s.getsockname()[1]
    local, bad, dead, remote = t.port(), t.port(), t.port(), t.port()
    srv = t.server(
        f'{CONTROL}PermitTunnel yes\nTunnelAddress 10.9.0.1/24\n'
        f'PermitOpen 127.0.0.1:{echo.port} 127.0.0.1:{closed}\n'
        'PerSourcePenalties no\n')
    client = t.client(srv, '-L', f'{local}:127.0.0.1:{echo.port}',
                      '-L', f'{bad}:127.0.0.1:{denied.port}',
                      '-L', f'{dead}:127.0.0.1:{closed}',
                      '-R', f'{remote}:127.0.0.1:{echo.port}')
    tunnel = t.client(srv, '-w', 'any:any', user='root')
    keygen('stranger')
    t.true(not t.logs_in(srv, key='stranger'), 'a stranger')
    data = os.urandom(100000)
    for _ in range(3):
        talk(local, data)
    talk(remote, data)
    for port in (bad, dead):
        with connect(port) as s:
            t.equal(s.recv(1), b'')
    wanted = {
        'adit_connections_total': 3.0, 'adit_sessions': 2.0,
        'adit_startups': 0.0, login('accepted'): 2.0,
        login('authfail'): 1.0, login('other'): 0.0,
        'adit_login_seconds_count': 2.0,
        opens('direct-tcpip', 'opened'): 3.0,
        opens('direct-tcpip', 'refused'): 1.0,
        opens('direct-tcpip', 'failed'): 1.0,
        'adit_forward_open_seconds_count': 3.0,
        opens('forwarded-tcpip', 'opened'): 1.0,
        opens('tcpip-forward', 'opened'): 1.0,
        opens('tunnel', 'opened'): 1.0,
        is_open('tunnel'): 1.0, is_open('tcpip-forward'): 1.0,
        is_open('direct-tcpip'): 0.0, is_open('forwarded-tcpip'): 0.0,
        refused('PermitOpen'): 1.0, 'adit_silent_brokers': 0.0}
    values = become(wanted)
    t.equal(sum(v for k, v in values.items()
                if k.startswith('adit_forward_refusals')), 1.0, 'refusals')
    for direction in ('up', 'down'):
        # the end of a connection is a byte of the kernel's
        t.true(0 <= values[moved('forward', direction)] - 4 * len(data) <= 4,
               f'bytes of forwards, {direction}')
        t.true(4 * len(data) < values[moved('client', direction)] <
               8 * len(data), f'bytes of clients, {direction}')
    t.true(0 < values['adit_forward_open_seconds_sum'] < 10 * SLOW, 'opens')
    client.stop()
    tunnel.stop()
    wanted.update({'adit_sessions': 0.0, is_open('tunnel'): 0.0,
                   is_open('tcpip-forward'): 0.0})
    after = become(wanted)
    never_less(values, after)
    t.equal(after[moved('forward', 'up')], values[moved('forward', 'up')])


@case('channels that are open are counted, and go on when they end', 'aditd')
def _(t):
    echo, local = t.target(), t.port()
    srv = t.server(CONTROL)
    client = t.client(srv, '-L', f'{local}:127.0.0.1:{echo.port}')
    with connect(local) as s:
        s.sendall(b'x' * 1000)
        got = b''
        while len(got) < 1000:
            got += s.recv(1000)
        before = become({is_open('direct-tcpip'): 1.0,
                         moved('forward', 'up'): 1000.0,
                         moved('forward', 'down'): 1000.0})
        client.stop()
    after = become({is_open('direct-tcpip'): 0.0, 'adit_sessions': 0.0,
                    moved('forward', 'up'): 1000.0})
    never_less(before, after)


@case('limits that keep somebody out', 'aditd')
def _(t):
    srv = t.server(f'{CONTROL}MaxStartups 1:100:1\nMaxConnections 1\n'
                   'MaxChannels 1\nMaxListeners 1\nPerSourcePenalties no\n')
    local, echo = t.port(), t.target()
    client = t.client(srv, '-R', f'{t.port()}:127.0.0.1:{echo.port}', '-R',
                      f'{t.port()}:127.0.0.1:{echo.port}', '-L',
                      f'{local}:127.0.0.1:{echo.port}', strict=False,
                      wait=False)
    wait_for(lambda: now()[opens('tcpip-forward', 'refused')] == 1.0, 10,
             'the second -R')
    with connect(local) as one:
        one.sendall(b'x')
        t.equal(one.recv(1), b'x')
        with connect(local) as two:
            t.equal(two.recv(1), b'')
    t.true(t.ssh(srv, '-N').returncode != 0, 'a second connection')
    # or it is in the way of the next one
    wait_for(lambda: now()['adit_startups'] == 0.0, 10, 'its end')
    with connect(srv.port) as first:
        wait_for(lambda: now()['adit_startups'] == 1.0, 10, 'a start-up')
        with connect(srv.port) as second:
            t.match('MaxStartups', second.recv(100).decode())
        first.close()
    become({refused('MaxChannels'): 1.0, refused('MaxListeners'): 1.0,
            'adit_connections_refused_total{rule="MaxStartups"}': 1.0,
            'adit_connections_refused_total{rule="MaxConnections"}': 1.0,
            'adit_connections_total': 3.0, login('accepted'): 1.0,
            login('other'): 1.0, login('noauth'): 1.0})
    client.stop()


@case('deaths by their signal; what a broker had told stays', 'aditd')
def _(t):
    echo, local = t.target(), t.port()
    srv = t.server(f'{CONTROL}PerSourcePenalties no\n')
    for n, (comm, sig, process) in enumerate([
            ('session', signal.SIGKILL, 'session'),
            ('session', signal.SIGTERM, 'session'),
            ('broker', signal.SIGKILL, 'broker')], 1):
        client = t.client(srv, '-L', f'{local}:127.0.0.1:{echo.port}')
        talk(local, b'x' * 1000)
        before = become({opens('direct-tcpip', 'opened'): n,
                         moved('forward', 'up'): 1000.0 * n})
        os.kill(processes(COMMS[comm])[0].pid, sig)
        client.wait(10)
        after = become({died(process, sig.name): 1.0, 'adit_sessions': 0.0})
        never_less(before, after)
        t.equal(after[moved('forward', 'up')], 1000.0 * n)
    # As its filter does. A build that names the call dies of something else.
    client = t.client(srv)
    os.kill(processes(COMMS['session'])[0].pid, signal.SIGSYS)
    client.wait(10)
    wait_for(lambda: sum(v for k, v in now().items()
                         if re.match(r'adit_deaths.*"session"', k)) == 3.0,
             10, 'SIGSYS')
    if SLOW == 1:
        t.equal(now()[died('session', 'SIGSYS')], 1.0)
    os.kill(processes(COMMS['keyholder'])[0].pid, signal.SIGKILL)
    become({died('role', 'SIGKILL'): 1.0,
            'adit_role_starts_total{role="keyholder"}': 2.0})


@case('reloads, good and bad', 'aditd')
def _(t):
    srv = t.server(CONTROL)
    srv.process.send_signal(signal.SIGHUP)
    good = 'adit_reloads_total{result="ok"}'
    become({good: 1.0})
    with open(srv.policy, 'a') as f:
        f.write('Nonsense\n')
    srv.process.send_signal(signal.SIGHUP)
    become({good: 1.0, 'adit_reloads_total{result="failed"}': 1.0})


@case('a broker that is stopped keeps nobody waiting', 'aditd')
def _(t):
    echo, local, other = t.target(), t.port(), t.port()
    srv = t.server(CONTROL)
    t.client(srv, '-L', f'{local}:127.0.0.1:{echo.port}')
    talk(local, b'x' * 1000)
    become({moved('forward', 'up'): 1000.0})
    broker = processes(COMMS['broker'])[0]
    t.client(srv, '-L', f'{other}:127.0.0.1:{echo.port}', user='neighbour')
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        talk(other, b'x' * 500)
        begun = time.monotonic()
        become({moved('forward', 'up'): 1500.0, 'adit_silent_brokers': 1.0})
        t.true(time.monotonic() - begun < 5 * SLOW, 'it waits')
        time.sleep(0.6)  # so long a scrape is answered from the one before
        begun = time.monotonic()
        now()
        t.true(time.monotonic() - begun < 0.7 * SLOW, 'it waits again')
    finally:
        os.kill(broker.pid, signal.SIGCONT)
    become({moved('forward', 'up'): 1500.0, 'adit_silent_brokers': 0.0})


if __name__ == '__main__':
    main()
