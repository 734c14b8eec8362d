/**
 * What the modules of Python's standard library import while they are imported themselves, as far as it comes from files:
 * of CPython 3.11 on Linux, as `test/standard-library.py` sees it happen; what follows from other lines is left out. Other
 * versions differ in few of them, and a wrong guess costs bytes, no more.
 */
const TABLE = `
_weakrefset: types
aifc: chunk collections struct
argparse: gettext warnings
ast: contextlib enum
asynchat: asyncore
asyncio: asyncio.queues asyncio.runners asyncio.subprocess asyncio.taskgroups asyncio.threads asyncio.timeouts
asyncio: asyncio.unix_events
asyncio.base_events: asyncio.staggered
asyncio.base_futures: asyncio.format_helpers
asyncio.base_subprocess: asyncio
asyncio.base_tasks: asyncio.base_futures
asyncio.constants: enum
asyncio.coroutines: inspect traceback
asyncio.events: asyncio.format_helpers
asyncio.format_helpers: asyncio
asyncio.futures: asyncio.format_helpers
asyncio.locks: asyncio.tasks
asyncio.log: logging
asyncio.mixins: asyncio.events
asyncio.queues: asyncio.mixins heapq
asyncio.runners: asyncio.tasks
asyncio.selector_events: asyncio.sslproto asyncio.trsock
asyncio.sslproto: asyncio ssl
asyncio.staggered: asyncio.locks
asyncio.streams: asyncio.tasks
asyncio.subprocess: asyncio.protocols asyncio.streams
asyncio.taskgroups: asyncio.tasks
asyncio.tasks: asyncio.base_tasks concurrent.futures
asyncio.threads: asyncio.events contextvars
asyncio.timeouts: asyncio.tasks typing
asyncio.trsock: socket
asyncio.unix_events: asyncio.base_events asyncio.base_subprocess asyncio.constants asyncio.coroutines
asyncio.unix_events: asyncio.exceptions asyncio.futures asyncio.log asyncio.selector_events asyncio.transports
asyncio.unix_events: subprocess
asyncore: socket warnings
base64: re struct
bdb: fnmatch inspect
bz2: _compression
cProfile: profile
calendar: datetime locale
cgi: email.message email.parser html tempfile
cgitb: html pydoc tempfile
chunk: warnings
cmd: string
code: codeop traceback
codeop: __future__ warnings
collections: keyword operator reprlib
compileall: filecmp pathlib py_compile struct
concurrent.futures: concurrent.futures._base
concurrent.futures._base: logging
configparser: collections.abc re warnings
contextlib: functools
copy: copyreg weakref
crypt: random string
csv: re
ctypes: ctypes._endian struct types
ctypes._endian: ctypes
dataclasses: copy inspect
datetime: operator
dbm: struct
difflib: heapq re
dis: collections opcode types
distutils: warnings
doctest: pdb unittest
email._encoded_words: base64 email email.errors string
email._header_value_parser: email._encoded_words email.utils urllib
email._parseaddr: calendar
email._policybase: email.header email.utils
email.base64mime: base64
email.charset: email email.base64mime email.encoders email.errors email.quoprimime
email.encoders: base64 quopri
email.feedparser: email._policybase
email.generator: copy email.utils
email.header: email.charset
email.message: email._encoded_words email._policybase email.iterators
email.parser: email.feedparser
email.quoprimime: string
email.utils: email._parseaddr email.charset random socket urllib.parse
ensurepip: importlib.resources subprocess sysconfig
enum: functools
filecmp: types
fileinput: types
fnmatch: re
fractions: decimal numbers re
ftplib: ssl
functools: collections types
getopt: gettext
getpass: contextlib warnings
gettext: re
glob: contextlib fnmatch
graphlib: types
gzip: _compression struct
hmac: hashlib warnings
html: html.entities re
http: enum
imaplib: calendar random ssl subprocess
imghdr: warnings
imp: importlib tokenize
importlib: warnings
importlib._abc: importlib
importlib.resources: importlib.resources._legacy
importlib.resources._adapters: importlib.resources
importlib.resources._common: importlib importlib.resources._adapters importlib.resources.abc tempfile
importlib.resources._legacy: importlib.resources._common pathlib
importlib.resources.abc: typing
inspect: ast collections.abc dis linecache
ipaddress: functools
json: json.decoder json.encoder
json.decoder: json json.scanner
json.encoder: re
json.scanner: re
linecache: tokenize
locale: encodings encodings.aliases re
logging: string threading traceback warnings weakref
lzma: _compression
mailbox: contextlib email.generator email.message
mailcap: re warnings
mimetypes: urllib.parse
modulefinder: dis
multiprocessing: multiprocessing.context
multiprocessing.context: multiprocessing.process multiprocessing.reduction
multiprocessing.process: signal threading
multiprocessing.reduction: multiprocessing pickle socket
netrc: shlex
nntplib: datetime email.header ssl
optparse: gettext textwrap
pathlib: fnmatch urllib.parse
pdb: bdb cmd code glob pprint signal typing
pickle: _compat_pickle re struct
pickletools: pickle
pipes: shlex tempfile
pkgutil: functools importlib
platform: re
plistlib: datetime re struct xml.parsers.expat
poplib: ssl
pprint: dataclasses
pstats: dataclasses typing
pty: tty
py_compile: traceback
pyclbr: ast
pydoc: __future__ inspect pkgutil platform sysconfig traceback urllib.parse
queue: heapq threading
random: bisect operator warnings
re: copyreg enum re._compiler
re._compiler: re re._casefix re._parser
re._parser: re._constants
rlcompleter: inspect
sched: heapq threading
secrets: base64 hmac random
selectors: collections collections.abc
shelve: collections.abc pickle
shlex: re
shutil: bz2 fnmatch lzma
signal: enum
smtpd: asynchat email._header_value_parser getopt
smtplib: email.generator email.message hmac ssl
sndhdr: collections warnings
socket: enum selectors
socketserver: socket threading
sqlite3: sqlite3.dbapi2
sqlite3.dbapi2: collections.abc datetime
sre_compile: re._compiler warnings
sre_constants: re warnings
sre_parse: re warnings
ssl: base64 socket warnings
statistics: fractions random
string: re
subprocess: contextlib locale selectors signal threading warnings
sunau: collections warnings
symtable: weakref
tabnanny: tokenize
tarfile: copy shutil struct warnings
telnetlib: socket warnings
tempfile: random shutil weakref
textwrap: re
threading: _weakrefset functools
tkinter: re tkinter.constants
tokenize: re token
tomllib: tomllib._parser
tomllib._parser: string tomllib._re
tomllib._re: __future__ datetime tomllib._types
tomllib._types: typing
trace: inspect pickle sysconfig threading
traceback: collections.abc contextlib linecache textwrap
tracemalloc: collections.abc fnmatch linecache pickle
typing: collections.abc contextlib re warnings
unittest: unittest.main
unittest.case: difflib pprint unittest.result
unittest.loader: fnmatch unittest.suite
unittest.main: argparse unittest.loader unittest.runner
unittest.result: traceback unittest
unittest.runner: unittest.result unittest.signals
unittest.signals: signal weakref
unittest.suite: unittest.case unittest.util
unittest.util: collections
urllib.parse: ipaddress re warnings
uu: warnings
uuid: platform
venv: logging shutil subprocess sysconfig
wave: collections struct
weakref: _weakrefset
webbrowser: shlex shutil subprocess
xdrlib: functools struct warnings
zipapp: zipfile
zipfile: contextlib pathlib shutil struct threading
zoneinfo: zoneinfo._common zoneinfo._tzpath
zoneinfo._common: struct
zoneinfo._tzpath: sysconfig
`;

/** By the name of the module. */
export function standardImports(): ReadonlyMap<string, readonly string[]> {
  const imports = new Map<string, string[]>();
  for (const line of TABLE.trim().split('\n')) {
    const [name, targets] = line.split(': ');
    imports.set(name, [...(imports.get(name) ?? []), ...targets.split(' ')]);
  }
  return imports;
}
