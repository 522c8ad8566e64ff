"""Where adit differs from sshd 9.2 on purpose: each with its reason."""
import re

from oracle_make import KEYS

TRAPS = []


class Settings:
    """What holds for a login by `sshd -T`, the login, and the policy."""

    def __init__(self, text, login, policy):
        self.text, self.login = text, login
        self.lines = '\n'.join(sum(policy.values(), []))
        credential = login.get('credential', '')
        key = credential if credential in KEYS else 'ca'
        lines = [line.rpartition(' ')[0].lower() for line in login['keys']
                 if line.endswith(f'{{{key}}}')]
        self.options = ','.join(lines)
        self.values = {}
        for line in text.splitlines():
            keyword, _, value = line.partition(' ')
            self.values.setdefault(keyword, []).append(value)

    def __getitem__(self, keyword):
        return ' '.join(self.values.get(keyword, []))

    def key_says(self, pattern):
        """Is it an option of a line with the key that logs in?"""
        return re.search(f'(^|,)({pattern})(,|$|=)', self.options)


def known(name, *kinds):
    """Register a predicate; kinds: of requests."""
    def register(fn):
        TRAPS.append((name, kinds, fn))
        return fn
    return register


def trap(settings, request, sshd, aditd):
    """The name of the difference, or None."""
    for name, kinds, applies in TRAPS:
        if request[0] in kinds and applies(settings, request, sshd, aditd):
            return name
    return None


def granted(said):
    return said.startswith(('open', 'granted'))


def stricter(sshd, aditd):
    return granted(sshd) and not granted(aditd)


# Forwards.

@known('port 0 or no name is no destination: refused before it is tried',
       'open')
def _(_s, request, sshd, aditd):
    return (request[2] == 0 or request[1] == '') and \
        (sshd, aditd) == ('connect failed', 'prohibited')


@known('PermitListen: a name in upper case matches nothing in sshd',
       'listen')
def _(s, request, sshd, aditd):
    return stricter(aditd, sshd) and re.search(
        '[A-Z]', s['permitlisten'] + ' '.join(s.login['keys']))


@known('listeners beyond port 65535: sshd takes the low 16 bits', 'listen')
def _(_s, request, sshd, aditd):
    return request[2] > 65535 and aditd == 'refused'


@known('privileged ports: PermitPrivilegedPorts, in sshd root', 'listen')
def _(s, request, sshd, aditd):
    return 0 < request[2] < 1024 and s.login['user'] == 'root' and \
        stricter(sshd, aditd)


@known('port 0 of two families: sshd takes one, if its port is not free '
       'in the other', 'listen')
def _(_s, request, sshd, aditd):
    both = [said.split(', ') for said in (sshd, aditd)]
    return request[2] == 0 and [len(said) for said in both] == [4, 4] and \
        set(both[0].pop(2).split()) < set(both[1].pop(2).split()) and \
        both[0] == both[1]


# Sockets.

@known('sockets: sshd always says connect failed', 'path')
def _(_s, request, sshd, aditd):
    return (sshd, aditd) == ('connect failed', 'prohibited')


@known('sockets: PermitOpen of policy or key must name them', 'path')
def _(s, request, sshd, aditd):
    return stricter(sshd, aditd) and aditd == 'prohibited' and \
        (s['permitopen'] != 'any' or s.key_says('permitopen'))


@known('sockets: PermitListen of policy or key must name them', 'socket')
def _(s, request, sshd, aditd):
    return stricter(sshd, aditd) and \
        (s['permitlisten'] != 'any' or s.key_says('permitlisten'))


@known('sockets: StreamLocalBindUnlink removes sockets alone', 'socket')
def _(s, request, sshd, aditd):
    return request[1].endswith('/file') and stricter(sshd, aditd) and \
        s['streamlocalbindunlink'] == 'yes'


# Tunnels.

@known('tunnels: DisableForwarding stops them', 'tunnel')
def _(s, _r, sshd, aditd):
    return s['disableforwarding'] == 'yes' and aditd == 'prohibited' and \
        sshd != 'prohibited'


@known('tunnels: restrict, no-port-forwarding stop them', 'tunnel')
def _(s, _r, sshd, aditd):
    return s.key_says('restrict|no-port-forwarding') and \
        aditd == 'prohibited' and sshd != 'prohibited'


@known('tunnels: a certificate must permit-port-forwarding', 'tunnel')
def _(s, _r, sshd, aditd):
    return s.login['credential'] == 'bound' and aditd == 'prohibited' and \
        sshd != 'prohibited'


@known('tunnels: sshd does not say that the key refuses the unit', 'tunnel')
def _(s, _r, sshd, aditd):
    return (sshd, aditd) == ('connect failed', 'prohibited') and \
        s.key_says('tunnel')


@known('tunnels: tunnel="any" permits every unit', 'tunnel')
def _(s, _r, sshd, aditd):
    return s.key_says('tunnel="any"') and granted(aditd) and \
        sshd == 'connect failed'


@known('tunnels: adit makes devices for accounts', 'tunnel')
def _(s, _r, sshd, aditd):
    return s.login['user'] != 'root' and granted(aditd) and \
        sshd == 'connect failed'


@known("tunnels: a device made for an account is not root's", 'tunnel')
def _(s, request, sshd, aditd):
    return s.login['user'] == 'root' and request[2] == 5 and \
        sshd.startswith('open') and aditd == 'connect failed'


# Logins.

@known('a locked password does not keep a key out', 'login')
def _(s, _r, sshd, aditd):
    return s.login['user'] == 'locked' and aditd == 'in'


@known('a policy that lets nobody in is none to sshd', 'policy')
def _(s, _r, sshd, aditd):
    return (sshd, aditd) == ('refused', 'taken') and \
        'Disabled method "publickey"' in s.text


@known('sshd hangs up where no method is left', 'login')
def _(s, _r, sshd, aditd):
    return s['pubkeyauthentication'] == 'no' and (sshd, aditd) == ('gone',
                                                                   'out')


@known('"none" instead of a file inside Match is a file to sshd', 'login')
def _(s, _r, sshd, aditd):
    return sshd in ('out', 'gone') and aditd == 'in' and re.search(
        r'(?ims)^\s*match\b.*^\s*(RevokedKeys|AuthorizedPrincipalsFile|'
        r'TrustedUserCAKeys)[\s="]+none', s.lines)


@known('a repeated "any" of AuthenticationMethods', 'policy')
def _(s, _r, sshd, aditd):
    return (sshd, aditd) == ('refused', 'taken') and \
        '"any" must appear alone' in s.text


@known('nologin is looked at before any login, but root', 'login')
def _(s, _r, sshd, aditd):
    return s.login['nologin'] and s.login['user'] != 'root' and \
        sshd == 'in' and aditd in ('out', 'gone')


@known('RequiredRSASize is 2048, in sshd 1024', 'login')
def _(s, _r, sshd, aditd):
    return s.login['credential'] == 'small' and \
        s['requiredrsasize'] == '1024' and (sshd, aditd) == ('in', 'out') \
        and not re.search('(?i)requiredrsasize.*1024', s.lines)
