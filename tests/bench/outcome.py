"""What a run's JSON has in common, whatever was measured."""
import json
import os
import re
import subprocess


def machine():
    with open('/proc/cpuinfo') as f:
        m = re.search(r'model name\s*: (.*)', f.read())
    with open('/proc/meminfo') as f:
        kib = int(re.search(r'MemTotal:\s*(\d+)', f.read())[1])
    with open('/proc/sys/net/ipv4/tcp_congestion_control') as f:
        congestion = f.read().strip()
    return {'cpu': m[1] if m else os.uname().machine,
            'cores': os.cpu_count(), 'kernel': os.uname().release,
            'congestion': congestion,
            'memory_gib': round(kib / 2 ** 20, 1)}


def first_line(*argv):
    """Of what a program says: its version."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True)
    return (done.stdout + done.stderr).splitlines()[0].strip()


def dump(results, f):
    """A line for each cell, so that diffs can be read."""
    cells = results['cells']
    text = json.dumps(dict(results, cells=[]), indent=1, ensure_ascii=False)
    rows = ',\n'.join('  ' + json.dumps(c) for c in cells)
    f.write(text.replace('"cells": []', f'"cells": [\n{rows}\n ]') + '\n')


def rounded(value):
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return float(f'{value:.5g}') if isinstance(value, float) else value


def between(path, mark, text):
    """This text is what the file has between the two marks."""
    with open(path) as f:
        before, _, after = f.read().split(mark)
    with open(path, 'w') as f:
        f.write(f'{before}{mark}\n{text}\n{mark}{after}')
