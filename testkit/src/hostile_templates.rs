//! Chat templates that try to hang, crash, fill memory or look around.

/// How a hostile template may end. It must never end the process that asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is refused as too costly.
    TooCostly,
    /// It is refused as invalid.
    Invalid,
    /// Either refusal; which one depends on what gives way first.
    AnyError,
    /// It may render or be refused: it asks for much, but not for too much.
    Any,
    /// It renders, and the text does not hold this.
    RendersWithout(&'static str),
}

/// Name, source, and how each must end.
pub fn hostile_templates() -> Vec<(&'static str, String, Outcome)> {
    let mut templates = memory_bombs();
    templates.extend(time_bombs());
    templates.extend(broken());
    templates.extend(curious());
    templates
}

fn of(cases: &[(&'static str, &str, Outcome)]) -> Vec<(&'static str, String, Outcome)> {
    cases.iter().map(|(name, source, outcome)| (*name, (*source).to_owned(), *outcome)).collect()
}

fn memory_bombs() -> Vec<(&'static str, String, Outcome)> {
    use Outcome::{AnyError, TooCostly};
    of(&[
        (
            "string-doubling",
            "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
            TooCostly,
        ),
        (
            "string-doubling-plus",
            "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
            TooCostly,
        ),
        (
            "list-doubling",
            "{% set ns = namespace(s=[1]) %}{% for i in range(64) %}{% set ns.s = (ns.s + ns.s) | list %}{% endfor %}",
            AnyError,
        ),
        ("repeat", "{% set x = 'x' * 2000000000 %}{{ x | length }}", AnyError),
        (
            "repeat-often",
            "{% set ns = namespace(l=[]) %}{% for i in range(100) %}{% set ns.l = ns.l + ['x' * 100000000] %}{% endfor %}",
            Outcome::Any,
        ),
        (
            "join",
            "{% set x = ('y' * 1000000) %}{% set l = range(99999) | map('string') | join(x) %}{{ l | length }}",
            AnyError,
        ),
        (
            "replace",
            "{% set x = 'a' * 100000 %}{% set y = x | replace('a', x) %}{{ y | length }}",
            AnyError,
        ),
        (
            "replace-method",
            "{% set x = 'a' * 100000 %}{% set y = x.replace('a', x) %}{{ y | length }}",
            AnyError,
        ),
        (
            "indent",
            "{% set x = 'a\\n' * 1000000 %}{% set y = x | indent(100000) %}{{ y | length }}",
            AnyError,
        ),
        ("format-width", "{{ '%2000000000d' | format(1) | length }}", AnyError),
        ("format-precision", "{{ '%.2000000000f' | format(1.5) | length }}", AnyError),
        ("huge-output", "{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}", TooCostly),
        (
            "huge-literal-output",
            "{% for i in range(50000) %}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}",
            TooCostly,
        ),
        (
            "captured-output",
            "{% set x %}{% for i in range(99999) %}{{ 'x' * 100000 }}{% endfor %}{% endset %}{{ x | length }}",
            AnyError,
        ),
        (
            "nested-lists",
            "{% set ns = namespace(l=[]) %}{% for i in range(90000) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l | tojson }}",
            AnyError,
        ),
        ("batch", "{{ range(99999) | batch(1000000000, 'x') | list | length }}", AnyError),
        ("slice-fill", "{{ range(10) | slice(1000000000, 'x') | list | length }}", AnyError),
        ("json-indent", "{{ [[[1]]] | tojson(indent=1000000000) }}", AnyError),
        (
            "filter-block",
            "{% filter replace('a', 'a' * 1000000) %}{% for i in range(10000) %}a{% endfor %}{% endfilter %}",
            AnyError,
        ),
    ])
}

fn time_bombs() -> Vec<(&'static str, String, Outcome)> {
    use Outcome::{AnyError, TooCostly};
    let mut cases = of(&[
        (
            "nested-loops",
            "{% for i in range(9999) %}{% for j in range(9999) %}{{ '' }}{% endfor %}{% endfor %}",
            TooCostly,
        ),
        ("huge-range", "{% for i in range(100000000000) %}{% endfor %}", AnyError),
        ("macro-recursion", "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}", AnyError),
        (
            "mutual-recursion",
            "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}",
            AnyError,
        ),
        (
            "double-recursion",
            "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
            AnyError,
        ),
        (
            "recursive-loop",
            "{% for x in [[[[1]]]] recursive %}{{ loop([[[[1]]]]) }}{% endfor %}",
            AnyError,
        ),
        (
            "sort-much",
            "{% for i in range(90000) %}{{ range(99999) | sort | length }}{% endfor %}",
            AnyError,
        ),
        ("self-import", "{% import 'chat_template' as t %}", AnyError),
        ("self-include", "{% include 'chat_template' %}", AnyError),
        ("self-extends", "{% extends 'chat_template' %}", AnyError),
        ("self-block", "{% block a %}{{ self.a() }}{% endblock %}", AnyError),
        (
            "call-recursion",
            "{% macro f() %}{% call f() %}{% endcall %}{% endmacro %}{{ f() }}",
            AnyError,
        ),
        ("big-power", "{{ (99999999 ** 99999999) | string | length }}", AnyError),
    ]);
    cases.push((
        "deep-parentheses",
        format!("{{{{ {}1{} }}}}", "(".repeat(20_000), ")".repeat(20_000)),
        Outcome::Invalid,
    ));
    cases.push(("deep-ifs", "{% if 1 %}".repeat(5_000), Outcome::Invalid));
    cases.push((
        "deep-lists",
        format!("{{{{ {}{} }}}}", "[".repeat(20_000), "]".repeat(20_000)),
        Outcome::Invalid,
    ));
    cases
}

fn broken() -> Vec<(&'static str, String, Outcome)> {
    use Outcome::Invalid;
    of(&[
        ("open-tag", "{% if", Invalid),
        ("open-expression", "{{ messages", Invalid),
        ("unknown-tag", "{% exec 'ls' %}", Invalid),
        ("unknown-filter", "{{ messages | system }}", Invalid),
        ("unknown-function", "{{ open('/etc/passwd') }}", Invalid),
        ("undefined-attribute", "{{ nothing.at.all }}", Invalid),
        ("bad-operands", "{{ messages + 1 }}", Invalid),
        ("zero-division", "{{ 1 // 0 }}", Invalid),
        ("bad-json", "{{ raise_exception | tojson }}", Invalid),
        ("bad-date", "{{ strftime_now('%') }}", Invalid),
        ("unknown-import", "{% from '../../../etc/passwd' import x %}", Invalid),
    ])
}

fn curious() -> Vec<(&'static str, String, Outcome)> {
    use Outcome::{Invalid, RendersWithout};
    of(&[
        ("class-attribute", "{{ ''.__class__ }}", RendersWithout("class")),
        ("class-mro", "{{ ''.__class__.__mro__[1].__subclasses__() }}", Invalid),
        ("globals", "{{ raise_exception.__globals__['os'].popen('id').read() }}", Invalid),
        ("cycler", "{{ cycler.__init__.__globals__.os.popen('id').read() }}", Invalid),
        ("self-template", "{{ self._TemplateReference__context }}", Invalid),
        ("config", "{{ config }}", RendersWithout("config")),
        ("environment", "{{ environ }}{{ env }}{{ os }}", RendersWithout("PATH")),
        ("debug", "{{ debug() }}", RendersWithout("PATH")),
        ("include-file", "{% include '/etc/passwd' %}", Invalid),
        ("include-missing", "{% include '/etc/passwd' ignore missing %}", RendersWithout("root:")),
    ])
}
