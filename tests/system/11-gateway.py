#!/usr/bin/python3
"""GatewayPorts: who may reach a -R. Privileged ports."""
from harness import (COMMS, FarHost, case, listening, main, processes,
                     reaches)

LOOPBACK = {'127.0.0.1', '::1'}
WILDCARD = {'0.0.0.0', '::'}
OURS = FarHost.ours
# What is asked for: what is bound, for no, yes, clientspecified.
TABLE = {
    '': (LOOPBACK, WILDCARD, WILDCARD),
    '*': (LOOPBACK, WILDCARD, WILDCARD),
    'localhost': (LOOPBACK, WILDCARD, LOOPBACK),
    '127.0.0.1': ({'127.0.0.1'}, WILDCARD, {'127.0.0.1'}),
    '[::1]': ({'::1'}, WILDCARD, {'::1'}),
    OURS: (LOOPBACK, WILDCARD, {OURS}),
}


def remote(t, srv, host, echo, **kw):
    port = t.port()
    client = t.client(srv, '-R', f'{host}:{port}:127.0.0.1:{echo.port}', **kw)
    return client, port


def register(word, column):
    @case(f'GatewayPorts {word}')
    def _(t):
        srv, echo, far = t.server(f'GatewayPorts {word}'), t.target(), \
            t.far_host()
        for host, bound in TABLE.items():
            client, port = remote(t, srv, host, echo)
            want = bound[column]
            t.equal(listening(port), want, f'{host!r}: listeners')
            for address in (FarHost.ours, FarHost.ours6):
                t.equal(far.reaches(address, port),
                        want is WILDCARD or address in want,
                        f'{host!r}: {address} from the other network')
            client.stop()


for column, word in enumerate(('no', 'yes', 'clientspecified')):
    register(word, column)


@case('an allocated port is the same for both families')
def _(t):
    srv, echo, far = t.server('GatewayPorts yes'), t.target(), t.far_host()
    client = t.client(srv, '-R', f'0:127.0.0.1:{echo.port}')
    port = int(client.wait_err(r'Allocated port (\d+)')[1])
    t.equal(listening(port), WILDCARD, 'listeners')
    t.true(far.reaches(far.ours, port) and far.reaches(far.ours6, port),
           'not reached')


@case('-R below 1024 is refused')
def _(t):
    srv, echo = t.server(), t.target()
    for port in (1, 80, 1023):
        client = t.client(srv, '-R', f'{port}:127.0.0.1:{echo.port}',
                          wait=False)
        t.true(client.wait() != 0, f'port {port} is granted')
        t.match('remote port forwarding failed', client.err())
    t.client(srv, '-R', f'1024:127.0.0.1:{echo.port}')
    t.true(reaches(1024), '1024 is not privileged')


@case('PermitPrivilegedPorts yes grants it, with one capability', 'aditd')
def _(t):
    srv = t.server('PermitPrivilegedPorts yes')
    echo = t.target()
    t.client(srv, '-R', f'80:127.0.0.1:{echo.port}')
    t.true(reaches(80), 'the echo')
    broker, = processes(COMMS['broker'])
    bind_service = 1 << 10
    t.equal(broker.ids('Uid'), [4001] * 4, 'the broker')
    for name in ('CapEff', 'CapPrm', 'CapBnd', 'CapInh', 'CapAmb'):
        have = int(broker.status[name], 16)
        t.equal(have & ~bind_service, 0, name)
    t.equal(int(broker.status['CapEff'], 16), bind_service, 'CapEff')


if __name__ == '__main__':
    main()
