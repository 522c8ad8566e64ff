"""A run's figures as bars, in SVG: legible on white and on black."""
from xml.sax.saxutils import escape

import report

COLOURS = {'adit': '#d9480f', 'sshd': '#1c7ed6', 'openvpn-udp': '#2b8a3e',
           'openvpn-tcp': '#868e96', 'dropbear': '#2b8a3e'}
WIDTH, LEFT, RIGHT, BAR, GAP = 780, 210, 120, 12, 12
# Grey for those that do not know what they are shown on.
STYLE = '''<style>
text { font: 12px system-ui, sans-serif; fill: #777 }
.title { font-weight: bold; font-size: 14px }
.value, .small { font-size: 10px }
.range { stroke: #777 } .axis { stroke: #888 }
@media (prefers-color-scheme: light) {
text { fill: #222 } .range { stroke: #222 }
}
@media (prefers-color-scheme: dark) {
text { fill: #ddd } .range { stroke: #ddd }
}
</style>'''
PANELS = [
    ('One TCP flow, Gbit/s: more is better', lambda n: n.startswith('rate/')),
    ('CPU of all the server\'s processes, seconds per GB: less is better',
     lambda n: n.startswith('cpu/') and '/0/' in n),
    ('Round trips in ms: less is better',
     lambda n: n.startswith('ping/') or n.startswith('shaped/')
     and n.endswith('/p99')),
]


def tag(x, y, text, kind=''):
    of = f' class="{kind}"' if kind else ''
    return f'<text x="{x:.1f}" y="{y:.1f}"{of}>{escape(text)}</text>'


def bar(row, server, y, scale):
    low, high = row.range(server)
    long = row.median(server) * scale
    mid = y + BAR / 2
    end = LEFT + max(long, high * scale) + 4
    return [f'<rect x="{LEFT}" y="{y}" width="{long:.1f}" height="{BAR - 1}"'
            f' fill="{COLOURS[server]}"/>',
            f'<line class="range" x1="{LEFT + low * scale:.1f}" '
            f'x2="{LEFT + high * scale:.1f}" y1="{mid}" y2="{mid}"/>',
            tag(end, y + BAR - 3, report.number(row.median(server)), 'value')]


def group(row, y, scale):
    """A row's bars from y down; where the next group starts."""
    short = row.title.replace('server CPU, ', '')
    servers = [s for s in COLOURS if s in row.values]
    out = [f'<text x="{LEFT - 8}" y="{y + BAR * len(servers) / 2 + 4}" '
           f'text-anchor="end">{escape(short)}</text>']
    top = y
    for server in servers:
        out += bar(row, server, y, scale)
        y += BAR
    out.append(f'<line class="axis" x1="{LEFT}" x2="{LEFT}" y1="{top - 2}" '
               f'y2="{y + 2}"/>')
    return out, y + GAP


def panel(title, rows, y):
    most = max(row.range(s)[1] for row in rows for s in row.values)
    scale = (WIDTH - LEFT - RIGHT) / most
    out = [tag(8, y + 14, title, 'title')]
    y += 28
    for row in rows:
        more, y = group(row, y, scale)
        out += more
    return out, y + 8


def legend(rows, y):
    out, x = [], LEFT
    for server in COLOURS:
        if not any(server in row.values for row in rows):
            continue
        out.append(f'<rect x="{x}" y="{y}" width="11" height="11" '
                   f'fill="{COLOURS[server]}"/>')
        out.append(tag(x + 16, y + 10,
                       report.TITLES.get(server, server)))
        x += 110
    out.append(tag(x, y + 10, 'thin line: range of rounds', 'small'))
    return out, y + 24


def svg(results, rows=None, panels=PANELS):
    rows = rows or report.figures(results)
    body, y = legend(rows, 8)
    for title, wanted in panels:
        some = [r for r in rows if wanted(r.name)]
        if some:
            more, y = panel(title, some, y)
            body += more
    foot = (f'{results["machine"]["cpu"]}, {results["machine"]["cores"]} '
            f'cores, Linux {results["machine"]["kernel"]}, '
            f'{results["date"]}, {results["command"]}')
    body.append(tag(8, y + 12, foot, 'small'))
    return '\n'.join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
        f'height="{y + 22}" viewBox="0 0 {WIDTH} {y + 22}">', STYLE, *body,
        '</svg>']) + '\n'
