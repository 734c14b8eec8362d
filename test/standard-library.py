"""
Prints what modules of Python's standard library import while they are imported themselves, as far as it comes from files:
what src/formats/python/standard-library.ts holds. What follows from the other lines is left out.

    python3 -S test/standard-library.py [MODULE]...
"""

import subprocess
import sys

# Imported by nobody's program, or not for reading.
LEFT_OUT = {'antigravity', 'idlelib', 'lib2to3', 'test', 'this', 'turtle', 'turtledemo'}

ONE = '''
import builtins, sys
real = builtins.__import__
edges = set()

def is_file(name):
    module = sys.modules.get(name)
    return (getattr(module, '__cached__', None) or '').endswith('.pyc')

def hook(name, globals=None, locals=None, fromlist=(), level=0):
    result = real(name, globals, locals, fromlist, level)
    importer = (globals or {}).get('__name__')
    if getattr((globals or {}).get('__spec__'), '_initializing', False):
        if level:
            package = (globals.get('__package__') or '').split('.')
            name = '.'.join(package[: len(package) - level + 1] + ([name] if name else []))
        for target in [name] + [name + '.' + item for item in fromlist or ()]:
            if is_file(importer) and is_file(target) and target != importer:
                edges.add(importer + ' ' + target)
    return result

builtins.__import__ = hook
try:
    real(sys.argv[1])
except Exception:
    edges.clear()
print('\\n'.join(sorted(edges)))
'''


def imports_of(names):
    edges = {}
    for name in names:
        found = subprocess.run([sys.executable, '-S', '-c', ONE, name], capture_output=True, text=True)
        for line in found.stdout.splitlines():
            if line.count(' ') == 1:
                importer, target = line.split(' ')
                edges.setdefault(importer, set()).add(target)
    return edges


def closure(edges, name):
    reached, ahead = set(), [name]
    while ahead:
        for target in edges.get(ahead.pop(), ()):
            if target not in reached:
                reached.add(target)
                ahead.append(target)
    return reached


def reduce(edges):
    for name in sorted(edges):
        for target in sorted(edges[name]):
            edges[name].discard(target)
            if target not in closure(edges, name):
                edges[name].add(target)


def main():
    names = sys.argv[1:] or sorted(
        name for name in sys.stdlib_module_names if not name.startswith('_') and name not in LEFT_OUT
    )
    edges = imports_of(names)
    reduce(edges)
    for name in sorted(edges):
        if edges[name]:
            print(f'{name}: {" ".join(sorted(edges[name]))}')


main()
