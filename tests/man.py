#!/usr/bin/python3
"""The manual pages, against the programs: keywords, defaults, options,
commands; examples pass; mandoc has nothing to say."""
import os
import re
import shutil
import subprocess
import tempfile

from tap import case, run_cases

TOP = os.environ.get('SRCDIR') or \
    os.path.join(os.path.dirname(os.path.abspath(__file__)), '..')
ADITD = os.environ.get('ADITD') or './aditd'
ADITCTL = os.path.join(os.path.dirname(ADITD), 'aditctl')
PAGES = ('aditctl.1', 'adit_policy.5', 'aditd.8')


def read(path):
    with open(f'{TOP}/{path}') as f:
        return f.read()


def run(*argv, text=''):
    """Status, standard output, standard error."""
    p = subprocess.run(argv, input=text, capture_output=True, text=True,
                       timeout=60)
    return p.returncode, p.stdout, p.stderr


# ---- what there is ----

def table():
    """Of policy/keywords.c: {keyword: (kind, may stand in Match)}."""
    text = read('policy/keywords.c')
    rows = re.findall(r'^\t(USED|CHOICE|IGNORE|REFUSE)\("(\w+)", ([GM]),',
                      text, re.M)
    found = {name: (kind, where == 'M') for kind, name, where in rows}
    second = text[text.index("/* sshd's second names */"):]
    for _, name in re.findall(r'^\t(USED|CHOICE)\("(\w+)"', second, re.M):
        found[name] = ('SECOND', found[name][1])
    found['Include'] = found['Match'] = ('USED', True)
    return found


def in_force():
    """What -T prints of a policy that is empty: {keyword: its words}."""
    rc, out, err = run(ADITD, '-T', '-f', '-')
    assert rc == 0, err
    found = {}
    for line in out.splitlines():
        name, *words = line.split(' #')[0].split()
        found.setdefault(name, []).extend(words)
    return found


def expected(keyword):
    """What aditd says stands behind the keyword."""
    err = run(ADITD, '-t', '-f', '-', text=f'{keyword}\n')[2]
    m = re.search(rf':1:1: {keyword}: missing argument(?:, expected (.*))?',
                  err)
    return m and (m[1] or '')


# ---- what is documented ----

def section(page, name, sub=False):
    """Of a page's source."""
    macro = 'Ss' if sub else 'Sh'
    m = re.search(rf'^\.{macro} {name}\n(.*?)(?=^\.S[{"hs" if sub else "h"}] '
                  r'|\Z)', page, re.M | re.S)
    assert m, name
    return m[1]


def entries(text):
    """Those of the outer list: {keyword: (its line's words, its text)}."""
    found, depth, name = {}, 0, None
    for line in text.splitlines():
        depth += line.startswith('.Bl') - line.startswith('.El')
        if depth == 1 and line.startswith('.It Cm '):
            words = line.split()[2:]
            name = words[0]
            assert name not in found, f'{name} twice'
            found[name] = (words[1:], [])
        elif name:
            found[name][1].append(line)
    return found


def default_of(lines):
    """The words behind "The default is"; None: there are none such."""
    at = [i for i, line in enumerate(lines) if line == 'The default is']
    if not at:
        return None
    assert len(at) == 1, 'two defaults'
    words = []
    lines = lines[at[0] + 1:]
    if lines[0].startswith('.Bd'):
        return [''.join(lines[1:lines.index('.Ed')])]
    for line in lines:
        if line == 'and':
            continue
        if not re.match(r'\.(Cm|Pa) ', line):
            break
        words += [w for w in line.split()[1:] if w not in ',.']
        if line.endswith(' .'):
            break
    return words


def plain(words):
    """A line's words, without macros."""
    return {w for w in words if not re.fullmatch(
        r'Cm|Ar|Ns|Op|Oo|Oc|\||[.,:]', w)}


def macros(text, name):
    """The arguments of these macros."""
    return [w for line in re.findall(rf'^\.{name} (.*)', text, re.M)
            for w in line.split() if w not in ',.']


# ---- cases ----

def same(what, code, page):
    code, page = set(code), set(page)
    missing, extra = sorted(code - page), sorted(page - code)
    assert not missing and not extra, \
        f'{what}: not documented {missing}, not there {extra}'


def policy_page():
    return read('man/adit_policy.5')


@case('adit_policy(5): every keyword, and no other')
def _():
    page, code = policy_page(), table()
    kinds = {'USED': ('USED', 'CHOICE'), 'SECOND': ('SECOND',),
             'REFUSE': ('REFUSE',), 'IGNORE': ('IGNORE',)}
    of = {'USED': entries(section(page, 'KEYWORDS').split('.Ss ')[0]),
          'SECOND': entries(section(page, 'Second names', True)),
          'REFUSE': entries(section(page, 'Keywords that are refused', True)),
          'IGNORE': macros(section(page, 'Keywords without effect', True),
                           'Cm')}
    for kind, names in of.items():
        same(kind, {k for k, v in code.items() if v[0] in kinds[kind]}, names)
    names = list(of['USED'])
    assert names == sorted(names, key=str.lower), 'not in order'
    unknown = [k for k in code if k != 'Match' and expected(k) is None]
    assert not unknown, f'aditd does not know {unknown}'


@case('adit_policy(5): defaults are what aditd -T prints')
def _():
    page = entries(section(policy_page(), 'KEYWORDS').split('.Ss ')[0])
    force, wrong = in_force(), []
    for keyword, (_, lines) in page.items():
        said, have = default_of(lines), force.get(keyword.lower())
        if sorted(said or []) != sorted(have or []) and \
                not (keyword == 'KexAlgorithms' and same_kex(said, have)):
            wrong.append(f'{keyword}: {said}, aditd has {have}')
    assert not wrong, wrong
    left = set(force) - {k.lower() for k in page}
    assert not left, f'-T prints {left}'
    ports = {w.rsplit(':', 1)[1] for w in force['listenaddress']}
    assert ports == {re.search(r'Without a line it is (\d+)', '\n'.join(
        page['Port'][1]))[1]}, 'Port'


def same_kex(said, have):
    """A libssh that has more of them puts those first."""
    return have and have[0].endswith(f',{said[0]}')


@case('adit_policy(5): the words that a keyword takes')
def _():
    page = entries(section(policy_page(), 'KEYWORDS').split('.Ss ')[0])
    wrong = []
    for keyword, (kind, _) in table().items():
        if kind != 'CHOICE':
            continue
        want = set(re.split(', | or ', expected(keyword)))
        if want != plain(page[keyword][0]):
            wrong.append(f'{keyword}: {page[keyword][0]}, not {want}')
    assert not wrong, wrong


@case('adit_policy(5): what may not stand in Match')
def _():
    m = re.search(r'man\.py: global only\n(.*)\.\\" tests/man\.py: all else',
                  policy_page(), re.S)
    same('Match', {k for k, (kind, inside) in table().items()
                   if kind in ('USED', 'CHOICE') and not inside},
         macros(m[1], 'Cm'))


@case('adit_policy(5): Match\'s criteria')
def _():
    text = read('policy/blocks.c')
    code = re.findall(r'^\t\{ "([\w-]+)", POLICY_BY_', text, re.M) + ['all']
    lines = '\n'.join(entries(section(policy_page(), 'KEYWORDS'))['Match'][1])
    same('Match', code, re.findall(r'^\.It Cm ([\w-]+)', lines, re.M))


@case('adit_policy(5): every key option, and no other')
def _():
    text = read('policy/keyopts.c')
    code = set(re.findall(r'^\t\{ "([\w-]+)", take_', text, re.M))
    for name, negatable in re.findall(r'^\t\{ "([\w-]+)", (true|false), set_',
                                      text, re.M):
        code |= {name, f'no-{name}'} if negatable == 'true' else {name}
    page = section(policy_page(), 'AUTHORIZED KEYS')
    same('options', code, {
        w.rstrip('=') for line in re.findall(r'^\.It Cm (.*)', page, re.M)
        for w in line.split(' Ns ')[0].split() if w != ','})


@case('adit_policy(5): the examples pass aditd -t')
def _():
    blocks = re.findall(r'^\.Bd -literal[^\n]*\n(.*?)^\.Ed',
                        section(policy_page(), 'EXAMPLES'), re.M | re.S)
    assert len(blocks) > 3, 'no examples'
    with tempfile.TemporaryDirectory() as d:
        run('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', f'{d}/key')
        for text in blocks:
            with open(f'{d}/policy', 'w') as f:
                f.write(text.replace('/var/log/adit', d))
            rc, _, err = run(ADITD, '-t', '-f', f'{d}/policy', '-h',
                             f'{d}/key')
            assert rc == 0 and not err, f'{text}: {err}'


def flags(page):
    """Options that have an entry."""
    found = set()
    for line in re.findall(r'^\.It Fl (.*)', page, re.M):
        for one in line.split(' , '):
            found.add('-' + one.replace('Fl ', '').split()[0])
    return found


@case('aditd(8): every option, and no other')
def _():
    usage = run(ADITD, '-?')[2]
    code = {f'-{c}' for word in re.findall(r'\[-(\w+)[\] ]', usage)
            for c in word}
    same('options', code | set(re.findall(r'--[\w-]+', usage)),
         flags(read('man/aditd.8')))
    getopt = re.search(r'getopt_long\(argc, argv, "([^"]*)"',
                       read('server/options.c'))[1].replace(':', '')
    same('usage', {f'-{c}' for c in getopt} - {'-x'}, code)


@case('aditd(8): signals')
def _():
    code = re.findall(r'sigaddset\(&set, (SIG\w+)\)',
                      read('server/listener.c'))
    same('signals', set(code) - {'SIGCHLD'},
         re.findall(r'^\.It Dv (\w+)', read('man/aditd.8'), re.M))


@case('aditctl(1): every command and option, and no other')
def _():
    rc, usage, err = run(ADITCTL, '--help')
    assert rc == 0, err
    page = read('man/aditctl.1')
    same('commands', re.findall(r'^  ([\w-]+)', usage.split('exit status')[0],
                                re.M),
         re.findall(r'^\.It Cm ([\w-]+)', page, re.M))
    code = re.findall(r'strcmp\(\*words, "(-[^"]+)"', read('server/aditctl.c'))
    same('options', code + ['--json'], flags(page))
    used = set(re.findall(r'(?<![\w-])--?[a-zA-Z][\w-]*', '\n'.join(
        line for line in usage.splitlines() if line[2:3] != ' ')))
    assert '--timeout' in used, usage
    lacking = [o for o in used if f'Fl {o[1:]}' not in page]
    assert not lacking, lacking
    statuses = re.findall(r'(\d) [a-z]', usage[usage.index('exit status'):])
    same('statuses', statuses, re.findall(
        r'^\.It (\d)', section(page, 'EXIT STATUS'), re.M))


def lint(page):
    def check():
        if not shutil.which('mandoc'):
            return 'no mandoc'
        _, out, _ = run('mandoc', '-Tlint', '-Wstyle', f'{TOP}/man/{page}')
        # where adit is not installed, its own pages
        said = [line for line in out.splitlines()
                if 'referenced manual not found' not in line]
        assert not said, said
        return None
    return check


for name in PAGES:
    case(f'mandoc has nothing to say of {name}')(lint(name))


run_cases()
