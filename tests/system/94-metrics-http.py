#!/usr/bin/python3
"""What is counted, by HTTP (MetricsListen)."""
import contextlib
import http.client
import os
import re
import resource
import signal
import socket
import time

from counted import CONTROL, died, now, parse, promtool, text
from harness import (COMMS, Failure, SLOW, USER, case, connect, main,
                     processes, wait_for)

METRICS = 'adit-metrics'


def get(port, path='/metrics', method='GET', host='127.0.0.1', timeout=10):
    c = http.client.HTTPConnection(host, port, timeout=timeout * SLOW)
    with contextlib.closing(c):
        c.request(method, path)
        answer = c.getresponse()
        return answer.status, answer.read().decode(), answer


def page(port, **kw):
    status, body, _ = get(port, **kw)
    if status != 200:
        raise Failure(f'{status} {body}')
    return body


@case('HTTP: what aditctl prints, on each address', 'aditd')
def _(t):
    a, b = t.port(), t.port()
    t.server(f'{CONTROL}MetricsListen 127.0.0.1:{a} [::1]:{b}\n')
    wait_for(lambda: processes(METRICS), 10, f'no {METRICS}')
    body = page(a)
    values = parse(body)
    t.equal(values['adit_role_starts_total{role="metrics"}'], 1.0)
    t.equal(set(parse(page(b, host='::1'))), set(values))
    t.equal(set(now()), set(values))
    _, _, answer = get(a)
    t.match('^text/plain; version=0.0.4', answer.headers['Content-Type'])
    t.equal(get(a, method='HEAD')[:2], (200, ''))
    t.equal(get(a, path='/')[0], 404)
    t.equal(get(a, path='/metrics/../../etc/passwd')[0], 404)
    for method in ('POST', 'PUT', 'DELETE', 'OPTIONS', 'TRACE', 'GOT'):
        t.equal(get(a, method=method)[0], 405, method)


@case('promtool finds nothing wrong with either text', 'aditd')
def _(t):
    port = t.port()
    srv = t.server(f'{CONTROL}MetricsListen 127.0.0.1:{port}\n')
    t.true(t.logs_in(srv), 'a login')
    promtool(text())
    promtool(page(port))


@case('HTTP: the process has nothing but its sockets', 'aditd')
def _(t):
    port = t.port()
    srv = t.server(f'{CONTROL}MetricsListen 127.0.0.1:{port}\n')
    page(port)
    p = wait_for(lambda: processes(METRICS), 10, f'no {METRICS}')[0]
    for name in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'):
        t.equal(int(p.status[name], 16), 0, name)
    t.client(srv)
    uids = {c: processes(COMMS[c])[0].ids('Uid')[0]
            for c in ('session', 'keyholder', 'broker')}
    t.true(len(set(p.ids('Uid'))) == 1 and p.ids('Uid')[0] != 0 and
           p.ids('Uid')[0] not in uids.values(), f'{p.ids("Uid")} {uids}')
    t.true(0 not in p.ids('Gid') + p.ids('Groups'), 'groups')
    t.equal((p.status['Seccomp'], p.status['NoNewPrivs']), ('2', '1'))
    t.equal(os.listdir(f'/proc/{p.pid}/root/'), [], 'its root')
    for fd, target in p.fds().items():
        # a sanitizer keeps standard error
        t.match(r'^(socket:|anon_inode:\[event|/dev/null)' +
                ('|/log$' if SLOW > 1 else ''), target, f'descriptor {fd}')
    t.equal(sum(v.startswith('socket:') for v in p.fds().values()), 2,
            'its edge, and what it listens on')
    # what HTTP's library brings is in nobody else
    for other in processes():
        with contextlib.suppress(OSError), \
                open(f'/proc/{other.pid}/maps') as f:
            t.true(('libmicrohttpd' in f.read()) == (other.pid == p.pid),
                   f'{other} has libmicrohttpd')


@case('HTTP: killed, it is started again, and logins go on', 'aditd')
def _(t):
    port = t.port()
    srv = t.server(f'{CONTROL}MetricsListen 127.0.0.1:{port}\n')
    page(port)
    old = processes(METRICS)[0].pid
    os.kill(old, signal.SIGSTOP)
    t.true(t.logs_in(srv), 'a login while it is stopped')
    os.kill(old, signal.SIGKILL)
    t.true(t.logs_in(srv), 'a login while it is gone')
    wait_for(lambda: [p for p in processes(METRICS) if p.pid != old], 20,
             'it does not come back')
    # the numbers may be those of half a second ago
    wait_for(lambda: parse(page(port))[died('role', 'SIGKILL')] == 1.0, 10,
             'its death is not counted')
    srv.process.send_signal(signal.SIGHUP)
    srv.wait_log('new connections use the new policy')
    parse(page(port))


def raw(port, data, timeout=15):
    """Everything that is answered."""
    got = b''
    with connect(port, timeout=timeout * SLOW) as s:
        with contextlib.suppress(OSError):
            s.sendall(data)
            while True:
                more = s.recv(65536)
                if not more:
                    break
                got += more
    return got


@case('HTTP: hostile requests', 'aditd', timeout=120)
def _(t):
    port = t.port()
    srv = t.server(f'{CONTROL}MetricsListen 127.0.0.1:{port}\n')
    page(port)
    pid = processes(METRICS)[0].pid
    get_it = b'GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n'
    whole = raw(port, get_it)
    t.true(whole.startswith(b'HTTP/1.1 200 ') and
           b'Connection: close' in whole, f'{whole[:300]}')
    for name, data, answer in (
            ('pipelined', get_it * 50, b'HTTP/1.1 200 '),
            ('a huge header', b'GET /metrics HTTP/1.1\r\nA: ' + b'x' * 1000000
             + b'\r\n\r\n', b'HTTP/1.1 431|HTTP/1.1 413|^$'),
            ('many headers', b'GET /metrics HTTP/1.1\r\n' + b'A: b\r\n' *
             100000 + b'\r\n', b'HTTP/1.1 431|HTTP/1.1 413|^$'),
            ('a long line', b'GET /' + b'x' * 1000000, b'HTTP/1.1 414|^$'),
            ('a body', b'POST /metrics HTTP/1.1\r\nHost: x\r\n'
             b'Content-Length: 99999999999\r\n\r\n' + b'x' * 100000,
             b'HTTP/1.1 405'),
            ('chunks', b'GET /metrics HTTP/1.1\r\nHost: x\r\n'
             b'Transfer-Encoding: chunked\r\n\r\nfffffffff\r\nxx',
             b'HTTP/1.1 |^$'),
            ('no HTTP', b'\x00\xff' * 1000 + b'\r\n\r\n', b'HTTP/1.1 4|^$'),
            ('SSH', b'SSH-2.0-x\r\n\r\n', b'HTTP/1.1 4|^$')):
        got = raw(port, data)
        if not re.match(answer, got):
            raise Failure(f'{name}: {got[:300]}')
        t.true(got.count(b'HTTP/1.1 ') <= 1, f'{name}: answers')
    t.equal(processes(METRICS)[0].pid, pid, 'its process')
    t.true(t.logs_in(srv), 'a login')
    parse(page(port))


@case('HTTP: those that are slow, and 200 at once', 'aditd', timeout=180)
def _(t):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    t.undo.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
    port = t.port()
    srv = t.server(f'{CONTROL}MetricsListen 127.0.0.1:{port}\n')
    page(port)
    p = processes(METRICS)[0]
    fds = len(p.fds())
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connect(port)) for _ in range(200)]
        for n, s in enumerate(slow):
            if n % 3:
                s.sendall(b'GET /met' if n % 3 == 1 else
                          b'GET /metrics HTTP/1.1\r\nHost: x\r\nA: ')
        t.true(t.logs_in(srv), 'a login beside them')
        t.equal(parse(text())['adit_accepting'], 1.0)
        t.true(len(p.fds()) < fds + 70, 'connections at once')
        # theirs is over in some seconds, whatever they send
        begun = time.monotonic()
        body = None
        while body is None and time.monotonic() - begun < 60 * SLOW:
            for s in slow:
                with contextlib.suppress(OSError):
                    s.send(b'x')
            with contextlib.suppress(OSError, http.client.HTTPException):
                body = page(port, timeout=1)
        if body is None:
            raise Failure('no scrape gets through')
        parse(body)
    wait_for(lambda: len(p.fds()) <= fds, 30 * SLOW, 'connections stay')
    parse(page(port))
    t.equal(processes(METRICS)[0].pid, p.pid, 'its process')


@case('HTTP: a flood of scrapes is few questions to a broker', 'aditd')
def _(t):
    port, n = t.port(), 0
    srv = t.server(f'{CONTROL}MetricsListen 127.0.0.1:{port}\n')
    t.client(srv)
    page(port)
    broker = processes(COMMS['broker'])[0]

    def woken():
        with open(f'/proc/{broker.pid}/status') as f:
            return int(re.search(r'(?m)^voluntary.*\t(\d+)', f.read())[1])
    time.sleep(0.6)
    before, end = woken(), time.monotonic() + 2
    while time.monotonic() < end:
        page(port)
        n += 1
    t.true(n > 20 / SLOW, f'{n} scrapes in two seconds')
    t.true(woken() - before <= 12, f'{woken() - before} times woken by {n}')


@case('MetricsListen: what it may be', 'aditd')
def _(t):
    for where in ('0.0.0.0:9', '[::]:9', '192.0.2.1:9', 'localhost:9'):
        srv = t.server(f'MetricsListen {where}\n', wait=False)
        t.true(srv.process.wait(20 * SLOW) != 0, f'{where}: it starts')
        t.match('not a loopback address: what is there to read is for this '
                'machine alone', srv.log())
    with socket.create_server(('127.0.0.1', 0)) as s:
        where = f'127.0.0.1:{s.getsockname()[1]}'
        srv = t.server(f'MetricsListen {where}\n', wait=False)
        t.true(srv.process.wait(20 * SLOW) != 0, 'it starts')
        t.match(f'MetricsListen {where}: Address already in use', srv.log())
    t.server('MetricsListen none\n')
    t.equal(processes(METRICS), [])


@case('of an ordinary user', 'aditd')
def _(t):
    port = t.port()
    t.server(f'MetricsListen 127.0.0.1:{port}\n', user=USER)
    wait_for(lambda: parse(page(port))['adit_accepting'] == 1.0, 10,
             'it does not accept')


if __name__ == '__main__':
    main()
