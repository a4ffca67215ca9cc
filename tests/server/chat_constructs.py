"""One template per construct, all with the same variables; jinja2 says what they print."""

PEOPLE = [{"name": "Bea", "age": 30, "tags": ["x", "y"]}, {"name": "abe", "age": 4, "tags": []},
          {"name": "Cy", "age": 30}]
VARIABLES = {
    "s": "  Hello Wörld  ", "u": "ß日本語é👍🏽x", "n": 7, "f": 2.5, "t": True, "z": None,
    "l": [3, 1, 2], "w": ["b", "A", "c", "a"], "d": {"b": 1, "A": [1, {"k": "v"}], "c": "x'y\"z"},
    "people": PEOPLE, "html": "<a href=\"x\">T'm & co</a>", "lines": "one\n\n two\r\nthree\n",
    "empty": [], "messages": [{"role": "user", "content": "hi"}],
}

# Each prints alone, wrapped in {{ }}.
EXPRESSIONS = r"""
1 + 2 * 3 - 4
7 // 2 ~ -7 // 2 ~ 7 % 3 ~ -7 % 3 ~ 7 % -3
7 / 2
6 / 3
2 ** 10
2 ** -1
2 ** 3 ** 2
-2 ** 2
1.5 // 0.4
-1.5 % 0.4
1e3
1_000
.5
1e16
1e-5
0.1 + 0.2
123456789.123456789
1e300 * 1e10
10 / 4 * 2
9223372036854775807 + 0
1 // 0
1 % 0
'a' + 1
'a' ~ 1 ~ none ~ true ~ 1.0 ~ [1, 'x'] ~ missing
'ab' * 3
3 * 'ab'
[1, 2] * 2
[1] + [2, 'x']
(1,) + (2,)
[1] + (2,)
'%s is %d %%' % ('x', 3)
'%s' % 'x'
'%s' % [1, 2]
'%s %s' % ('x',)
'a' 'b' "c"
'q\'s' ~ "d\"q" ~ 'b\\s' ~ 'n\nl' ~ 't\tb' ~ '\x41\u00e9\U0001F600' ~ '\q' ~ '\101'
true and false or not none
1 and 'x'
0 or ''
not 1 == 2
not not 1
1 < 2 < 3
1 < 2 > 3
1 == 1.0
true == 1
'1' == 1
[1, 2] == [1, 2.0]
(1, 2) == [1, 2]
{'a': 1, 'b': 2} == {'b': 2, 'a': 1}
none == none
missing == missing2
missing == none
'a' < 'b'
'Z' < 'a'
'é' > 'z'
[1, 2] < [1, 3]
1 < 'a'
none < 1
missing < 1
1 in [1, 2]
'x' not in ['y']
'b' in d
'Wör' in s
1 in '123'
'x' in missing
'x' in none
1 in 5
'a' if t else 'b'
'a' if not t
('a' if not t) is defined
'a' if n > 5 else 'b' if n > 3 else 'c'
s[2]
s[-3]
s[100]
u[0] ~ u[3] ~ u[-1]
u[1:4]
u[::-1]
u[::2]
u[-2:]
u[:-2]
u[5:2]
u[10:]
l[0] ~ l[-1]
l[5]
l[5] is defined
l[1:]
l[::-1]
l[:-1]
l[-100:100:2]
l[2:0:-1]
l[2::-5]
l[::0]
l['a']
l.0
d.b
d['b']
d.missing
d.missing.more
d['A'][1].k
d.A.1.k
z.x
n.x
missing.x
missing['x']
missing()
n()
d.items() | list
d.keys() | list
d.values() | list
d.get('b')
d.get('zz')
d.get('zz', 5)
d.pop('b')
l.append(4)
l.index(1)
l.count(2)
l.index(9)
{}
[]
()
(1)
(1,)
1, 2
{'a': [1, (2,), {'b': none}], 2: 'x', true: 1.5}
{'a': 1, 'a': 2}
{[1]: 2}
['it\'s', "q\"q", 'b\'"', 'n\n', 't\t', '\\', 'é', '\x01', '\u200b', '\xa0', '😀', '\u0378']
[1.0, 1e20, -0.0, 1e-7, 12345.678]
s.strip() ~ '|' ~ s.lstrip() ~ '|' ~ s.rstrip() ~ '|'
'xxabcxx'.strip('x')
'xyabcyx'.strip('xy')
'éabcé'.strip('é')
'abc'.lstrip('cba')
'abc'.strip(none)
'a,b,,c'.split(',')
'a,b,,c'.split(',', 1)
'a,b,,c'.rsplit(',', 1)
'  a  b c '.split()
'  a  b c '.split(none, 1)
' a\u00a0b\u2003c\x1cd '.split()
'abc'.split('')
''.split(',')
''.split()
lines.splitlines()
lines.splitlines(true)
'abc'.startswith('ab') ~ 'abc'.endswith('bc') ~ 'abc'.startswith(('x', 'a')) ~ 'abc'.endswith('')
'abc'.startswith(1)
'abc'.removeprefix('ab') ~ 'abc'.removesuffix('bc') ~ 'abc'.removeprefix('x')
u.upper()
u.lower()
u.title()
u.capitalize()
'İstanbul ΣΑΣ ŉ ǆ ﬁ'.lower()
'straße ŉ ﬁ ǆ ΐ'.upper()
'ǆ ﬁne they\'re o\'neil x1y'.title()
'ǆ ﬁne'.capitalize()
'hELLO wORLD'.capitalize()
'aXbXc'.replace('X', '--')
'aXbXc'.replace('X', '-', 1)
'abc'.replace('', '-')
'日本'.replace('', '-')
'abc'.replace('', '-', 2)
''.replace('', '-')
'aaa'.replace('aa', 'b')
'abcabc'.count('bc') ~ 'aaaa'.count('aa') ~ 'abc'.count('')
'日本語'.find('語') ~ 'abc'.find('z') ~ 'abcabc'.rfind('bc') ~ 'abc'.find('')
'-'.join(['a', 'b'])
'-'.join([1])
'{} and {}'.format('x', 1)
'{1}{0}{k}{{}}'.format('x', 'y', k='z')
'{}'.format()
'12'.isdigit() ~ 'é'.isalpha() ~ ' '.isspace() ~ ''.isdigit() ~ '²'.isdigit() ~ '½'.isdigit()
s | trim
'xxaxx' | trim('x')
n | trim
missing | trim ~ '|'
s | length
u | length
l | length ~ d | length ~ d | count
n | length
missing | length
u | upper
u | lower
'hELLO wORLD' | capitalize
'hello wORLD-foo (bar) {baz} [q] <z> it\'s ñu ß' | title
l | join(', ')
l | join
missing | join(',')
people | join('/', attribute='name')
[1, 'a', none, true] | join('-')
l | first ~ l | last ~ u | first ~ u | last
empty | first is defined
empty | last
'a' | default('x')
missing | default('x')
missing | default
'' | default('x')
'' | default('x', true)
none | d('x', boolean=true)
none | default('x')
missing.x | default('y')
'a.b.c' | replace('.', '-')
'a.b.c' | replace('.', '-', 1)
5 | replace('5', '6')
d | tojson
people | tojson
people | tojson(indent=2)
{'a': [], 'b': {}, 'c': [[]]} | tojson(indent=2)
[1, [2, {'x': 3}]] | tojson(indent='\t')
[1, 2] | tojson(indent=0)
d | tojson(separators=(',', ':'))
d | tojson(separators=(',', ':'), indent=1)
{'b': 1, 'a': 2} | tojson(sort_keys=true)
u | tojson
u | tojson(ensure_ascii=true)
'\x00\x1f\x7f\u2028</script>&\'"\\/\b\f' | tojson
[1.0, 1e20, 1e-7, true, none, -5] | tojson
{1: 'a', true: 'b', none: 'c', 1.5: 'd'} | tojson
html | tojson
missing | tojson
(1, 2) | tojson
1e400 | tojson
n | string ~ d | string
'42' | int ~ ' 7 ' | int ~ '3.9' | int ~ 'x' | int ~ 'x' | int(5) ~ 2.9 | int ~ -2.9 | int ~ none | int ~ true | int
missing | int
'1.5' | float ~ 'x' | float ~ 3 | float ~ 'x' | float(1.5)
-5 | abs ~ (-5) | abs ~ (-2.5) | abs
u | list
d | list
missing | list
n | list
d | items | list
missing | items | list
people | map(attribute='name') | list
people | map(attribute='tags') | list
people | map(attribute='tags.0') | list
people | map(attribute='tags', default='-') | list
w | map('upper') | list
w | map('replace', 'a', 'z') | join
w | map('nofilter') | list
people | selectattr('age', 'equalto', 30) | map(attribute='name') | list
people | selectattr('age', '==', 4) | map(attribute='name') | list
people | selectattr('age', 'gt', 4) | list | length
people | selectattr('tags') | map(attribute='name') | list
people | selectattr('tags', 'defined') | list | length
people | rejectattr('tags', 'defined') | map(attribute='name') | list
people | rejectattr('name', 'in', ['Bea', 'Cy']) | map(attribute='name') | list
people | selectattr('name', 'none') | list
l | select('odd') | list ~ l | reject('odd') | list
[0, 1, '', 'a'] | select | list ~ [0, 1, '', 'a'] | reject | list
l | select('nosuch') | list
['a', 'A', 'b', 1, 1.0] | unique | list
people | unique(attribute='age') | map(attribute='name') | list
['a', 'A'] | unique(true) | list
l | sort ~ w | sort ~ w | sort(case_sensitive=true) ~ l | sort(reverse=true)
people | sort(attribute='age') | map(attribute='name') | list
people | sort(attribute='name', reverse=true) | map(attribute='name') | list
[1, 'a'] | sort
l | reverse | list ~ 'añb' | reverse
d | dictsort
d | dictsort(true)
{'a': 3, 'b': 1} | dictsort(by='value')
{'a': 3, 'b': 1} | dictsort(false, 'key', true)
l | min ~ l | max ~ w | min ~ w | max
people | max(attribute='age') == people[0]
people | min(attribute='age') == people[1]
empty | min is defined
l | sum ~ people | sum(attribute='age') ~ empty | sum ~ l | sum(start=10)
['a'] | sum
2.5 | round ~ 3.5 | round ~ 2.675 | round(2) ~ -2.5 | round ~ 7 | round
42.55 | round(1, 'floor') ~ 42.51 | round(1, 'ceil') ~ 1234.5 | round(-2)
2.5 | round(1, 'sideways')
lines | indent
lines | indent(2, true)
lines | indent(2, blank=true)
'x' | indent('>> ', true)
'' | indent
html | e
html | escape | length
html | safe
[1, 2, 3, 4, 5] | batch(2) | list
[1, 2, 3, 4, 5] | batch(2, 'x') | list
people | groupby('age') | map('last') | map('length') | list
people | groupby('age') | map('first') | list
'%s-%s' | format('a', 2)
'a b  c' | wordcount
s | nosuchfilter
n is defined ~ missing is defined ~ missing is undefined ~ n is undefined ~ d.zz is defined
z is none ~ n is none ~ missing is none
s is string ~ n is string
n is number ~ f is number ~ t is number ~ s is number
n is integer ~ t is integer ~ f is integer ~ f is float ~ n is float
t is boolean ~ n is boolean ~ t is true ~ t is false ~ n is true ~ false is false
d is mapping ~ l is mapping
l is iterable ~ d is iterable ~ s is iterable ~ n is iterable ~ z is iterable ~ missing is iterable
l is sequence ~ d is sequence ~ s is sequence ~ n is sequence ~ (1, 2) is sequence
range is callable ~ n is callable ~ s.strip is callable
n is eq 7 ~ n is equalto(7) ~ n is ne 7 ~ n is lt 8 ~ n is le(7) ~ n is gt 8 ~ n is ge 7 ~ n is greaterthan 1 ~ n is lessthan 1
n is in [7] ~ 'x' is in 'xyz' ~ n is not in [7]
n is odd ~ n is even ~ n is divisibleby 7 ~ n is divisibleby(2)
s is odd
z is sameas none ~ 1 is sameas true ~ n is sameas 7
'abc' is lower ~ 'ABC' is upper ~ 'aB' is lower ~ '1' is upper
n is not defined
n is nosuchtest
s is string and n is number
range(3) | list ~ range(1, 4) | list ~ range(5, 0, -2) | list ~ range(0) | list
range(10)[2:4] | list
range(200000) | length
range(1, 2, 0) | list
dict(a=1, b='x')
dict({'a': 1}, b=2)
dict([('a', 1), ('b', 2)])
namespace(a=1).a
strftime_now('%d %b %Y')
strftime_now('%Y-%m-%d %H:%M:%S %A %B %j %p %%')
raise_exception('No "tools" here: ' ~ n)
nosuch('x')
s.__class__
''.__class__.__mro__
d._x
(n, s)[0]
[n, s][-1]
{'a': {'b': 'c'}}['a'].b
{'a': 1}.a
'abc'.upper().lower()[1:]
('abc' | upper)[0]
(l | sort)[0] + 1
-n | abs
-f
+n
- - n
-s
messages[0].role ~ messages[-1]['content']
messages[0].items() | list
(messages | first).content
[[1, 2], [3]] | map('length') | list
[[1, 2], [3]] | map('join', '-') | list
w | join(', ') | upper | length
t ~ f ~ z ~ missing
[missing]
[l, d]
""".strip("\n").split("\n")

TEMPLATES = [
    "{% if n > 5 %}big{% elif n > 3 %}mid{% else %}small{% endif %}",
    "{% if missing %}a{% elif empty %}b{% elif z %}c{% else %}d{% endif %}",
    "{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}"
    "{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.depth }};"
    "{% endfor %}",
    "{% for x in empty %}x{% else %}none{% endfor %}",
    "{% for x in missing %}x{% else %}none{% endfor %}",
    "{% for x in none %}x{% endfor %}",
    "{% for x in 5 %}x{% endfor %}",
    "{% for c in 'añ👍' %}[{{ c }}]{% endfor %}",
    "{% for k in d %}{{ k }}{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in d | dictsort %}{{ k }}={{ v }};{% endfor %}",
    "{% for (a, b), c in [((1, 2), 3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for a, b in [[1, 2, 3]] %}{{ a }}{% endfor %}",
    "{% for x in l if x > 1 %}{{ loop.index }}/{{ loop.length }}:{{ x }} {% else %}no{% endfor %}",
    "{% for x in l if x > 9 %}{{ x }}{% else %}no{% endfor %}",
    "{% for x in l %}{% for y in l %}{{ loop.depth }}{{ x * y }}{% endfor %}|{{ loop.index }}{% endfor %}",
    "{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x > 4 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{% else %}never{% endfor %}",
    "{% for x in l %}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% set x = 1 %}{% for i in l %}{% set x = x + i %}{{ x }},{% endfor %}{{ x }}",
    "{% set ns = namespace(x=0, seen=[]) %}{% for i in l %}{% set ns.x = ns.x + i %}{% set ns.seen = ns.seen + [i] %}{% endfor %}{{ ns.x }}{{ ns.seen }}{{ ns.y }}",
    "{% set d.x = 1 %}",
    "{% set missing.x = 1 %}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set a, b = 1 %}",
    "{% set (a, b), c = (1, 2), 3 %}{{ a + b + c }}",
    "{% set a = 1, %}{{ a }}",
    "{% if t %}{% set a = 1 %}{% endif %}{{ a }}",
    "{% set a %}  x {{ n }} {% endset %}[{{ a }}]{{ a | length }}",
    "{% set a | trim | upper %}  x {{ n }} {% endset %}[{{ a }}]",
    "{% set a %}{% set b = 2 %}{{ b }}{% endset %}{{ a }}{{ b }}",
    "{% macro m(a, b=2, c='x') %}{{ a }}-{{ b }}-{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(1, c=4) }} {{ m(b=5, a=6) }} {{ m() }}",
    "{% macro m(a) %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, k=4) }}",
    "{% macro m(n) %}{% if n > 0 %}{{ n }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(5) }}",
    "{% set g = 1 %}{% macro m() %}{{ g }}{{ n }}{% endmacro %}{% set g = 2 %}{{ m() }}",
    "{% macro m() %}{% set inner = 3 %}{{ inner }}{% endmacro %}{{ m() }}{{ inner }}",
    "{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}body {{ n }}{% endcall %}",
    "{% macro m(l) %}{% for x in l %}{{ caller(x, loop.last) }}{% endfor %}{% endmacro %}{% call(x, last) m([1, 2]) %}<{{ x }}{{ last }}>{% endcall %}",
    "{% macro m(a, b=a) %}{{ b }}{% endmacro %}{{ m(3) }}",
    "{% macro m() %} x {% endmacro %}{{ m() | trim | length }}{{ m() ~ '!' }}{{ m().strip() }}",
    "{% filter upper %}abc {{ u }}{% endfilter %}",
    "{% filter replace('a', 'b') | upper %}banana{% endfilter %}",
    "{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a }}",
    "{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q }}",
    "{% generation %}{{ n }}{% set q = 1 %}{% endgeneration %}{{ q }}",
    "{% raw %}{{ x }}{% if %}{# c #}{% endraw %}",
    "{%- raw -%}  a  {%- endraw -%}  b",
    "a {% raw %} b {% endraw %} c",
    "a{# comment {{ x }} #}b{#- c -#} d",
    "a\n  {# comment #}\nb",
    "a\n  {% if t %}\n  b\n  {% endif %}\nc\n",
    "a\n  {%- if t %}\n  b\n  {%- endif %}\nc",
    "a\n  {% if t -%}\n  b\n  {% endif -%}\nc",
    "a\n  {%+ if t %}\n  b\n  {%+ endif +%}\nc",
    "a \n {{- n -}} \n b",
    "a \n {{ n }} \n b",
    "  {{ n }}\n\n",
    "x {% if t %} y {% endif %} z",
    "\n{% if t %}\n\n1\n\n{% endif %}\n\n",
    "{% if t %}\r\na\r\n{% endif %}\r\nb\rc",
    "   {% set x = 1 %}   \n{{ x }}",
    "{{ '}}' }}{{ \"%}\" }}{{ '{{' }}",
    "{{ {'a': {'b': 1}}['a']['b'] }}{{ {'a': {}} }}",
    "{% set x = {'a': {'b': [1, 2, {'c': 3}]}} %}{{ x.a.b[2].c }}{{ x['a']['b'][:2] }}",
    "{{ {\n  'a': 1,\n  'b': [\n    2,\n  ],\n}\n}}",
    "{% if 'a' in d and 'A' in d or missing %}y{% endif %}",
    "{% if not (t and n) %}a{% else %}b{% endif %}",
    "{% if n is defined and n is not none and n > 3 %}y{% endif %}",
    "{% if s.strip().startswith('Hello') %}y{% endif %}",
    "{{ n }}{% set n = 1 %}{{ n }}",
    "{% for n in [1] %}{{ n }}{% endfor %}{{ n }}",
    "{% for p in people %}{% set x = p.name %}{% if loop.first %}{% set y = x %}{% endif %}{{ y }}{% endfor %}{{ x }}",
    "{% set ns = namespace() %}{% set ns.a = 'x' %}{{ ns.a }}{{ ns.b is defined }}",
    "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}{{ ns['a'] }}",
    "{{ '<|x|>' + messages[0]['role'] + '\\n' + messages[0]['content'] }}",
    "{{ raise_exception('stop') }}after",
    "{% if messages | length > 0 and messages[0].role == 'system' %}s{% else %}{{ raise_exception('first: ' + messages[0].role) }}{% endif %}",
    "{{ x", "{% if %}", "{% if t %}", "{% endif %}", "{% nosuch %}", "{% for x %}{% endfor %}", "{{ 'a }}",
    "{# open", "{{ 1 + }}", "{{ (1 }}", "{{ 1) }}", "{{ [1, }}", "{{ a b }}", "{{ }}", "{{ 'a' | }}",
    "{{ a. }}", "{{ a[ }}", "{{ a ? b }}", "{% set %}", "{% set x %}", "{% break %}", "{% macro %}{% endmacro %}",
    "{% macro m(a=1, b) %}{% endmacro %}", "{% call n %}{% endcall %}", "{% if t %}{% else %}{% else %}{% endif %}",
    "{{ m(a=1, 2) }}", "}}", "%}", "{ { x } }", "a { b } c", "{", "{{ '{%' }}", "",
]

CONSTRUCTS = ["{{ " + expression + " }}" for expression in EXPRESSIONS] + TEMPLATES
