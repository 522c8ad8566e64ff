#!/usr/bin/python3
"""adit against sshd: what -T prints of a random policy for a random login.

    ADIT_SEED=N      repeats a run
    ADIT_LONG=1      a few thousand, others each time
"""
import collections
import concurrent.futures
import os
import random
import re
import time

from harness import PEER, SSHD, TOP, Failure, case, main, sh
from oracle_make import SOURCES, USERS, Maker

LONG = bool(os.environ.get('ADIT_LONG'))
SEED = int(os.environ.get('ADIT_SEED', 0)) or (
    random.randrange(1, 1 << 31) if LONG else 1)
BINARY = {'sshd': SSHD, 'aditd': f'{TOP}/aditd'}
# What both print, but of what each has of its own.
OWN = {'hostkey', 'ipqos', 'hostkeyalgorithms', 'kexalgorithms', 'macs',
       'ciphers', 'listenaddress', 'port'}
# Lists that sshd prints as it works them out, and adit as they are written.
WRITTEN = {'pubkeyacceptedalgorithms', 'casignaturealgorithms'}


class Printer(Maker):
    """With keywords that bear on no request."""

    def setting(self):
        pick = self.rng.choice
        if self.often(0.55):
            return super().setting()
        return pick([
            lambda: ('ClientAliveInterval', pick(
                ['0', '15', '1m', '1h30m', '2D', '1w', '90s'])),
            lambda: ('ClientAliveCountMax', pick(['0', '3', '7', '100'])),
            lambda: ('RekeyLimit', pick(
                ['default', 'default none', '1G', '512M 1h', '16K 30m',
                 'default 2h', '100000'])),
            lambda: ('Banner', pick(['none', '/etc/motd'])),
            lambda: ('RequiredRSASize', pick(['2048', '3072', '1024'])),
            lambda: ('AuthorizedKeysCommand', pick(
                ['none', '/bin/true', '/bin/echo %u %h'])),
            lambda: ('AuthorizedKeysCommandUser', pick(['nobody', 'root'])),
            lambda: ('AuthorizedPrincipalsCommand', pick(
                ['none', '/bin/echo %u %i'])),
            lambda: ('AuthorizedPrincipalsCommandUser', 'nobody'),
            lambda: ('PubkeyAuthOptions', pick(
                ['none', 'touch-required', 'verify-required',
                 'touch-required verify-required'])),
            lambda: ('UnusedConnectionTimeout', pick(['none', '30s', '1h'])),
            lambda: ('ChannelTimeout', pick(
                ['none', 'direct-tcpip=5m', 'session:*=1h', '*=10m'])),
            lambda: ('LogLevel', pick(
                ['QUIET', 'fatal', 'Error', 'INFO', 'DEBUG3', 'debug1'])),
            lambda: ('StreamLocalBindMask', pick(['0177', '022', '0', '777'])),
            lambda: ('PermitListen', '127.0.0.1:8080 [::1]:* localhost:9'),
            lambda: ('PermitOpen', 'a.b:1 [fe80::1]:22 *:443'),
        ])()

    def dress(self, keyword, value):
        """sshd takes the rest of the line for a command, as it is."""
        if keyword.endswith('Command'):
            return f'{keyword} {value}'
        return super().dress(keyword, value)

    def odd_line(self):
        """One that may be good or bad."""
        pick = self.rng.choice
        keyword, value = self.setting()
        return pick([
            lambda: keyword,
            lambda: f'{keyword} {value} extra',
            lambda: f'{keyword} "{value}',
            lambda: f'{keyword} ""',
            lambda: f'{keyword} {value},',
            lambda: f'{keyword}x {value}',
            lambda: f'{keyword} == {value}',
            lambda: f'{keyword} \'{value}\'',
            lambda: 'Match',
            lambda: 'Match User',
            lambda: 'Match all User root',
            lambda: 'Match User root all',
            lambda: 'Match Address 10.0.0.1/8',
            lambda: 'Match Address 300.0.0.1/8',
            lambda: 'Match Nonsense x',
            lambda: 'Match User root # comment',
            lambda: 'Match user=root',
            lambda: 'Match LocalPort x',
            lambda: 'Port 70000',
            lambda: 'PermitOpen x',
            lambda: 'PermitOpen none 1.2.3.4:5',
            lambda: 'PermitListen any 5',
            lambda: 'MaxAuthTries -1',
            lambda: 'MaxAuthTries 0x10',
            lambda: 'ClientAliveInterval 1x',
            lambda: 'StreamLocalBindMask 999',
            lambda: 'AllowUsers',
            lambda: 'AllowUsers @x',
            lambda: 'AllowUsers a@10.0.0.1/8',
            lambda: 'DenyUsers a b# c',
            lambda: 'Include /nonexistent/*',
            lambda: 'Include',
            lambda: 'LoginGraceTime 1m 2m',
            lambda: 'PermitTunnel maybe',
            lambda: 'GatewayPorts YES',
            lambda: 'AllowTcpForwarding True',
            lambda: f'{keyword}\f{value}',
            lambda: f'{keyword} {value} #',
            lambda: f'{keyword} {value}\\',
        ])()

    def global_line(self):
        pick = self.rng.choice
        return ' '.join(pick([
            lambda: ('MaxStartups', pick(['10', '5:50:20', '10:30:100'])),
            lambda: ('LoginGraceTime', pick(['0', '30', '2m', '1h'])),
            lambda: ('StrictModes', pick(['yes', 'no'])),
            lambda: ('UseDNS', pick(['yes', 'no'])),
            lambda: ('TCPKeepAlive', pick(['yes', 'no'])),
            lambda: ('AddressFamily', pick(['any', 'inet', 'inet6'])),
            lambda: ('PerSourceMaxStartups', pick(['none', '5'])),
            lambda: ('PerSourceNetBlockSize', pick(['32', '24:64'])),
            lambda: ('VersionAddendum', pick(['none', 'hello', 'a b'])),
            lambda: ('PidFile', pick(['none', '/run/x.pid'])),
        ])())

    def policy(self):
        files = super().policy()
        for _ in range(self.rng.randint(0, 2)):
            files['policy'].insert(0, self.global_line())
        if self.often(0.3):
            files['policy'].insert(
                self.rng.randint(0, len(files['policy'])), self.odd_line())
        return files


# Each keyword's value as one of them writes it.

def plain(keyword, values):
    """A canonical value of a keyword's lines."""
    text = ' '.join(values).strip()
    if keyword in ('loglevel', 'permitrootlogin'):
        text = text.lower()
    if keyword == 'permitrootlogin':
        text = text.replace('prohibit-password', 'without-password')
    if keyword == 'rekeylimit':
        text = text.replace('default', '0').replace('none', '0')
    if keyword in ('permitlisten', 'permitopen'):
        text = re.sub(r'(^| )([^ :]+)(?= |$)', r'\1*:\2', text) \
            if text not in ('any', 'none') else text
    if keyword == 'authenticationmethods':
        # adit has the shortest one, which is satisfied first
        text = min(text.split(), key=len)
    if keyword == 'channeltimeout':
        text = re.sub(r'(\d+)([mh])', lambda m: str(
            int(m[1]) * {'m': 60, 'h': 3600}[m[2]]), text)
    if keyword == 'streamlocalbindmask':
        text = oct(int(text, 8))
    if keyword == 'loglevel':
        text = {'silent': 'quiet', 'debug': 'debug1'}.get(text, text)
    return text.replace('"', '').replace('\\\\', '\\')


def read(text):
    found = {}
    for line in text.splitlines():
        # adit says where each value is from
        line = re.sub(r' +# (default|\S+:\d+|command line\S*)$', '', line)
        keyword, _, value = line.partition(' ')
        found.setdefault(keyword.lower(), []).append(value)
    return found


class Asker:
    def __init__(self, folder):
        self.folder, self.count = folder, 0

    def write(self, policy):
        self.count += 1
        folder = f'{self.folder}/{self.count}'
        os.mkdir(folder)
        for name, lines in policy.items():
            with open(f'{folder}/{name}', 'w', newline='') as f:
                f.write(''.join(line + '\n' for line in lines).replace(
                    '{DIR}', folder).replace('{PORT}', '22'))
        return f'{folder}/policy'

    def ask(self, path, spec):
        """Of each: exit status, what it prints, what it complains of."""
        def one(binary):
            done = sh(binary, '-T', '-h', f'{TOP}/hostkey', '-f', path, '-C',
                      spec, check=False)
            return done.returncode, read(done.stdout), done.stderr
        return [one(binary) for binary in BINARY.values()]


# Of a default, or where sshd's parser errs: (keyword, sshd's, adit's, how many
# lines of it that takes).
KNOWN = {
    'other defaults': [
        ('pidfile', '/run/sshd.pid', '/run/adit/aditd.pid', 0),
        ('requiredrsasize', '1024', '2048', 0)],
    'PerSourceNetBlockSize: without a word IPv6 is one block in sshd': [
        ('persourcenetblocksize', r'(\d+):0', r'\d+:128', 1)],
    'the last line wins in sshd, or parts of several': [
        ('streamlocalbindmask', '.*', '.*', 2), ('maxstartups', '.*', '.*', 2),
        ('rekeylimit', '.*', '.*', 2),
        ('persourcenetblocksize', '.*', '.*', 2)],
    'none wins or loses against other lines in sshd': [
        ('unusedconnectiontimeout', 'none', r'\d+', 2),
        ('persourcemaxstartups', r'\d+|none', r'\d+|none', 2)],
    'AuthorizedPrincipalsCommand: the last one wins in sshd, and none that '
    'comes after AuthorizedKeysCommand': [
        ('authorizedprincipalscommand', '.*', '.*', 2),
        ('authorizedprincipalscommand', 'none', '/.*', 1)],
}
# Policies that one of them refuses: which, and what it says.
REFUSED = {
    'a command of Match all, or one lost as above, without its user': (
        'either', 'Authorized(Keys|Principals)Command (set )?without'),
    'quotes around a command': ('sshd', 'must be an absolute path'),
    'nobody could log in': ('sshd', 'Disabled method "publickey"'),
    'values of keywords without effect are not read': (
        'sshd', 'unsupported option|missing argument|keyword (X11Forwarding|'
        'PermitTTY|AllowAgentForwarding) extra arguments'),
    'a repeated "any" of AuthenticationMethods': (
        'sshd', '"any" must appear alone'),
    'what is behind a number, relative paths, hosts that are none': (
        'aditd', r'(\\134|,): not|not a host'),
    'what is no address in Match Address': (
        'aditd', 'not a list of addresses'),
}


def known(keyword, both, policy):
    lines = '\n'.join(sum(policy.values(), []))
    n = len(re.findall(rf'(?im)^\s*{keyword}\b', lines))
    for name, rows in KNOWN.items():
        if any(k == keyword and re.fullmatch(a, both[0]) and
               re.fullmatch(b, both[1]) and n >= least
               for k, a, b, least in rows):
            return name
    return None


def why_refused(sshd, aditd):
    for name, (who, says) in REFUSED.items():
        for kind, one in (('sshd', sshd), ('aditd', aditd)):
            if who in (kind, 'either') and one[0] != 0 and \
                    re.search(says, one[2]):
                return name
    return None


def differences(policy, sshd, aditd, traps):
    """{keyword: (of sshd, of aditd)}; the known ones are counted in traps."""
    found = {}
    if (sshd[0] == 0) != (aditd[0] == 0):
        name = why_refused(sshd, aditd)
        if name:
            traps[name] += 1
        else:
            found['whether it is a policy'] = (sshd[0], aditd[0])
    elif sshd[0] == 0:
        for keyword in set(sshd[1]) & set(aditd[1]) - OWN - WRITTEN:
            both = [plain(keyword, who[1][keyword]) for who in (sshd, aditd)]
            name = both[0] != both[1] and known(keyword, both, policy)
            if name:
                traps[name] += 1
            elif both[0] != both[1]:
                found[keyword] = tuple(both)
    return found


@case('-T prints what sshd prints', 'aditd', timeout=1500 if LONG else 200)
def _(t):
    print(f'# ADIT_SEED={SEED}')
    maker, asker = Printer(random.Random(SEED)), Asker(t.folder)
    cases, jobs, bad = 0, [], []
    keywords, traps = collections.Counter(), collections.Counter()
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for _ in range(3000 if LONG else 120):
            policy = maker.policy()
            source = maker.rng.choice(list(SOURCES))
            spec = (f'user={maker.rng.choice(USERS[:-1])},host={source},'
                    f'addr={source},laddr={SOURCES[source]},lport=22')
            path = asker.write(policy)
            jobs.append((policy, spec, pool.submit(asker.ask, path, spec)))
        for policy, spec, job in jobs:
            sshd, aditd = job.result()
            cases += 1
            for keyword in set(sshd[1]) & set(aditd[1]):
                keywords[keyword] += 1
            for keyword, both in differences(
                    policy, sshd, aditd, traps).items():
                bad.append((keyword, policy, spec, both,
                            (sshd[2], aditd[2])))
    print(f'# {cases} policies, {len(keywords)} keywords of both, '
          f'{sum(keywords.values())} values, {len(bad)} differ, '
          f'{time.monotonic() - start:.0f} s')
    for name, n in traps.most_common():
        print(f'#   {n:5} {name}')
    by = collections.Counter(one[0] for one in bad)
    for keyword, n in by.most_common():
        print(f'#   {n:5} {keyword}')
        for one in [b for b in bad if b[0] == keyword][:3]:
            print(f'#      {one[3]} {one[2]}')
            for name, lines in one[1].items():
                for line in lines:
                    print(f'#         {name}: {line!r}')
            for line in ''.join(one[4]).splitlines():
                print(f'#         said: {line}')
    if bad:
        raise Failure(f'{len(bad)} differences; ADIT_SEED={SEED}')
    t.true(sum(keywords.values()) > 10 * cases, 'hardly a policy is printed')


if PEER != 'aditd':
    print('1..0 # SKIP it runs both')
else:
    main()
