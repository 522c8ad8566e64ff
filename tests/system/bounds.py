"""What a hostile client may cost: memory, time, log, other people's time."""
import contextlib
import json
import os
import subprocess
import time

from harness import COMMS, SLOW, Failure, processes, wait_for

NEIGHBOUR = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                         '../hostile/neighbour.py')
# How long a case lasts, and all of adit's processor time in it. The most
# memory of any session or broker, and what the processes that stay may have
# more of afterwards; a sanitizer's tells nothing. Lines of log, and bytes in
# each on average. The longest round trip of another session.
USUAL = {'seconds': 15, 'cpu_s': 6, 'rss_mib': 40, 'grown_mib': 4,
         'lines': 200, 'line_bytes': 500, 'gap_s': 1}
LASTING = ('listener', 'keyholder', 'brokerzyg', 'sessionzyg')
ADIT = set(COMMS.values())


class Neighbour:
    """hostile/neighbour.py, running."""

    def __init__(self, t, srv):
        port = t.port()
        argv = t.argv(srv, '-W', f'127.0.0.1:{port}', verbose=False)
        self.process = subprocess.Popen(
            ['/usr/bin/python3', '-IS', NEIGHBOUR, str(port), *argv],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        t.undo.callback(self.stop)
        if self.process.stdout.readline() != 'ready\n':
            raise Failure('the other session does not come about')

    def stop(self):
        """What it met; None: not for the first time."""
        if self.process.stdin.closed:
            return None
        self.process.stdin.close()
        with self.process.stdout as out:
            said = out.readline()
        self.process.wait()
        return json.loads(said)


class Now:
    """What the server's processes have at the moment."""

    def __init__(self, srv):
        found = [p for p in processes() if p.comm in ADIT]
        self.fds, self.rss_kib, self.count = {}, {}, {}
        for role in LASTING:
            for p in found:
                if p.comm == COMMS[role]:
                    self.add(role, p)
        self.cpu_s = sum(cpu_s(p.pid) for p in found)
        self.log_bytes = os.path.getsize(srv.log_path)
        self.log_lines = srv.log().count('\n')
        self.at = time.monotonic()

    def add(self, role, p):
        kib = int(p.status['VmRSS'].split()[0])
        self.rss_kib[role] = max(self.rss_kib.get(role, 0), kib)
        self.fds[role] = max(self.fds.get(role, 0),
                             len(os.listdir(f'/proc/{p.pid}/fd')))
        self.count[role] = self.count.get(role, 0) + 1


def cpu_s(pid):
    """Its own and that of its children that ended."""
    with contextlib.suppress(OSError), open(f'/proc/{pid}/stat') as f:
        words = f.read().rsplit(') ', 1)[1].split()
        return sum(map(int, words[11:15])) / os.sysconf('SC_CLK_TCK')
    return 0


def quiet(srv, before):
    """Nobody is served but the neighbour, and no descriptor is left. What is
    there; None: not yet."""
    found = [p.comm for p in processes()]
    if any(found.count(COMMS[role]) != 1 for role in ('session', 'broker')):
        return None
    after = Now(srv)
    # A zygote that was replaced stays for its last child, at a price.
    extra = sum(after.count.values()) - sum(before.count.values())
    return after if set(after.fds) == set(before.fds) and all(
        n <= before.fds[role] + 4 * extra for role, n in after.fds.items()) \
        else None


def compare(t, before, after, met, bounds):
    """Each bound, and a line of the figures."""
    took = after.at - before.at
    t.true(took < bounds['seconds'] * SLOW, f'it took {took:.0f} s')
    cpu = after.cpu_s - before.cpu_s
    t.true(cpu < bounds['cpu_s'] * SLOW, f'{cpu:.1f} s of processor time')
    lines = after.log_lines - before.log_lines
    size = after.log_bytes - before.log_bytes
    t.true(lines <= bounds['lines'], f'{lines} lines of log')
    t.true(size <= bounds['line_bytes'] * max(lines, 1),
           f'{size} bytes in {lines} lines of log')
    rss = {role: met['memory'].get(COMMS[role], 0) / 1024
           for role in ('session', 'broker')}
    grown = max(after.rss_kib[role] - before.rss_kib[role]
                for role in LASTING) / 1024
    if SLOW == 1:
        t.true(max(rss.values()) < bounds['rss_mib'], f'MiB: {rss}')
        t.true(grown < bounds['grown_mib'], f'{grown:.1f} MiB have stayed')
    t.equal(met['error'], '', 'another session')
    gap = met['worst']
    # What the machine itself is late is not the server's.
    t.true(gap < bounds['gap_s'] * SLOW + met['noise'],
           f'another session waited {gap:.1f} s')
    if os.environ.get('ADIT_LONG') == '1':
        print(f'#   {took:.1f} s, cpu {cpu:.1f} s, session '
              f'{rss["session"]:.0f} MiB, broker {rss["broker"]:.0f} MiB, '
              f'grown {grown:.1f} MiB, log {lines} lines {size} bytes, '
              f'gap {gap * 1000:.0f} ms of {met["rounds"]}')


@contextlib.contextmanager
def bounded(t, srv, **other):
    """What happens within leaves the server and another session as they were,
    at a bounded price; other: instead of what is usual."""
    bounds = {**USUAL, **other}
    neighbour = Neighbour(t, srv)
    before = Now(srv)
    yield
    after = wait_for(
        lambda: quiet(srv, before), 10,
        lambda: f'left: {processes()}, descriptors {before.fds} and then '
        f'{Now(srv).fds}')
    compare(t, before, after, neighbour.stop(), bounds)
