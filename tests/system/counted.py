"""What aditd counts, read and compared."""
import re
import subprocess
import time

from harness import Failure, SLOW, TOP, need, run

CTL = f'{TOP}/aditctl'
CONTROL = 'ControlSocket /run/adit/control\n'


def text():
    return run(CTL, 'metrics', timeout=20 * SLOW)


def parse(page):
    """{'name{labels}': value}, of a text in which all is as it must be."""
    found, kinds, name = {}, {}, None
    for line in page.splitlines():
        head = re.fullmatch(r'# HELP (\w+) .+\.', line)
        kind = re.fullmatch(r'# TYPE (\w+) (counter|gauge|histogram)', line)
        row = re.fullmatch(r'(\w+)(\{(?:\w+="[^"\\]*",?)+\})? ([\d.]+)', line)
        if head:
            if head[1] in kinds:
                raise Failure(f'{head[1]} is there twice')
            name = head[1]
        elif kind and kind[1] == name:
            kinds[name] = kind[2]
        elif row and row[1].startswith(name) and name in kinds:
            key = row[1] + (row[2] or '')
            if key in found:
                raise Failure(f'{key} is there twice')
            found[key] = float(row[3])
        else:
            raise Failure(f'not understood: {line!r}')
    for name, kind in kinds.items():
        if kind == 'histogram':
            cumulative(found, name)
    return found


def cumulative(found, name):
    buckets = [(k, v) for k, v in found.items()
               if k.startswith(f'{name}_bucket')]
    values = [v for _, v in buckets]
    if values != sorted(values) or not buckets[-1][0].endswith('"+Inf"}'):
        raise Failure(f'{buckets} are not cumulative')
    if values[-1] != found[f'{name}_count']:
        raise Failure(f'{name}: {values[-1]}, but _count '
                      f'{found[f"{name}_count"]}')


def now():
    return parse(text())


def counters(values):
    return {k: v for k, v in values.items()
            if re.search(r'_(total|bucket|count|sum)\b', k)}


def never_less(before, after):
    for key, value in counters(before).items():
        if after[key] < value:
            raise Failure(f'{key}: {value}, then {after[key]}')


def become(wanted, timeout=10):
    """Wait until the numbers are these; nothing may become less on the way.
    Returns all of them."""
    last = now()
    end = time.monotonic() + timeout * SLOW

    while True:
        wrong = {k: (last[k], v) for k, v in wanted.items() if last[k] != v}
        if not wrong:
            return last
        if time.monotonic() > end:
            raise Failure(f'(is, should be): {wrong}')
        time.sleep(0.1)
        after = now()
        never_less(last, after)
        last = after


def opens(kind, result):
    return f'adit_forward_opens_total{{kind="{kind}",result="{result}"}}'


def refused(rule):
    return f'adit_forward_refusals_total{{rule="{rule}"}}'


def login(result):
    return f'adit_logins_total{{result="{result}"}}'


def is_open(kind):
    return f'adit_forwards{{kind="{kind}"}}'


def moved(what, direction):
    return f'adit_{what}_bytes_total{{direction="{direction}"}}'


def died(process, sig):
    return f'adit_deaths_total{{process="{process}",signal="{sig}"}}'


def promtool(page):
    done = subprocess.run([need('promtool'), 'check', 'metrics'], input=page,
                          capture_output=True, text=True, timeout=60 * SLOW)
    if done.returncode != 0 or done.stdout + done.stderr:
        raise Failure(f'promtool: {done.returncode} {done.stdout}'
                      f'{done.stderr}')
