//! Each function: what it gives, and what it refuses. The conformance vectors have more of the same.

mod common;

use common::{failure, is_true};

#[test]
fn functions_give_what_the_language_says() {
    for text in [
        // conversions
        "bool('t') && !bool('False') && int('-7') == -7 && uint('7') == 7u && double('1e3') == 1000.0",
        "int(7.9) == 7 && int(-7.9) == -7 && uint(7.9) == 7u && double(7) == 7.0 && int(time.now) == 1234567890",
        "string(1.0) == '1' && string(1e6) == '1e+06' && string(123456.5) == '123456.5' && string(1e-5) == '1e-05'",
        "string(-0.5) == '-0.5' && string(1.0 / 0.0) == '+Inf' && string(true) == 'true' && string(7u) == '7'",
        "string(b'a') == 'a' && bytes('é') == b'\\xc3\\xa9' && string(time.now) == '2009-02-13T23:31:30Z'",
        "string(duration('90m')) == '5400s' && timestamp(0) == timestamp('1970-01-01T00:00:00Z')",
        "bytes(conn.client_ip) == b'1.2.3.4' && string(bytes(conn.client_ip + 'é')) == '1.2.3.4é'",
        // sizes
        "size('é') == 1 && b'é'.size() == 2 && size([1, 2]) == 2 && {1: 2}.size() == 1",
        // strings
        "'héllo'.contains('él') && 'héllo'.startsWith('hé') && 'héllo'.endsWith('lo') && ''.contains('')",
        "'héllo'.charAt(1) == 'é' && 'héllo'.charAt(5) == '' && (conn.client_ip + 'é').charAt(7) == 'é'",
        "'héllo'.indexOf('l') == 2 && 'héllo'.indexOf('l', 3) == 3 && 'héllo'.indexOf('', 5) == 5 && 'a'.indexOf('b') == -1",
        "'héllo'.lastIndexOf('l') == 3 && 'héllo'.lastIndexOf('l', 2) == 2 && 'héllo'.lastIndexOf('h', 0) == 0",
        "'aaa'.lastIndexOf('aa') == 1 && 'aéa'.lastIndexOf('éa', 1) == 1 && 'aé'.lastIndexOf('a', 0) == 0",
        "'AbÉ'.lowerAscii() == 'abÉ' && 'aBé'.upperAscii() == 'ABé' && 'abc'.lowerAscii() == 'abc'",
        "'aaa'.replace('a', 'bb') == 'bbbbbb' && 'aaa'.replace('a', 'b', 2) == 'bba' && 'ab'.replace('', '-') == '-a-b-'",
        "'aaa'.replace('a', 'b', 0) == 'aaa' && 'aaa'.replace('a', 'b', -1) == 'bbb' && 'a'.replace('x', 'y') == 'a'",
        "'a,b,c'.split(',') == ['a', 'b', 'c'] && 'a,b,c'.split(',', 2) == ['a', 'b,c'] && 'a'.split(',', 0) == []",
        "'aéb'.split('') == ['a', 'é', 'b'] && ''.split(',') == [''] && ''.split('') == [] && 'abc'.split('', 2) == ['a', 'bc']",
        "'héllo'.substring(1) == 'éllo' && 'héllo'.substring(1, 2) == 'é' && 'a'.substring(1) == ''",
        "' \\t\\u00a0a b\\n'.trim() == 'a b' && ''.trim() == ''",
        "'aéb'.reverse() == 'béa' && [1, 2].reverse() == [2, 1] && req.accepts.reverse()[0] == '*/*'",
        "['a', 'b'].join() == 'ab' && ['a', 'b'].join(', ') == 'a, b' && req.accepts.join('|') == 'text/html|*/*'",
        "strings.quote('a\"\\n') == '\"a\\\\\"\\\\n\"'",
        // format
        "'%s %s %s'.format([1, 'a', [null, 1.5, {'b': true, 'a': b'x'}]]) == '1 a [null, 1.5, {a: x, b: true}]'",
        "'%d %d %d'.format([1, 2u, 1.5]) == '1 2 1.5' && '%b %o %x %X'.format([5, 8, 255, 255u]) == '101 10 ff FF'",
        "'%x'.format(['az']) == '617a' && '%x'.format([-255]) == '-ff' && '%b'.format([false]) == '0'",
        "'%f %.2f %.0f'.format([1.5, 2, 2.5]) == '1.500000 2.00 2' && '%.1e'.format([12345.0]) == '1.2e+04'",
        "'%e'.format([1e-7]) == '1.000000e-07' && '100%%'.format([]) == '100%' && '%s'.format([type(1)]) == 'int'",
        // base64
        "base64.encode(b'') == '' && base64.encode(b'a') == 'YQ==' && base64.encode(b'ab') == 'YWI=' && base64.encode(b'\\xfb\\xff') == '+/8='",
        "base64.decode('YQ==') == b'a' && base64.decode('YQ') == b'a' && base64.decode('+/8') == b'\\xfb\\xff'",
        // time
        "time.now.getDayOfWeek() == 5 && time.now.getHours('+02:00') == 1 && time.now.getDate('-23:59') == 12",
        "time.now - timestamp('2009-02-13T23:31:00Z') == duration('30s') && time.now + duration('1s') > time.now",
        "duration('1h30m').getMinutes() == 90 && duration('1500ms').getMilliseconds() == 500 && duration('-90s').getMinutes() == -1",
        "dyn(1) == 1 && type(dyn('a')) == string",
    ] {
        assert!(is_true(text), "{text}");
    }
}

#[test]
fn functions_refuse_what_they_cannot_do() {
    for (text, told) in [
        ("bool('yes')", "1:1: the text is no bool"),
        ("int('1.5')", "1:1: the text is no int"),
        (
            "int('99999999999999999999999999999999999999999999999999999999999999999')",
            "1:1: the text is too long to be converted",
        ),
        ("uint('-1')", "1:1: the text is no uint"),
        ("double('x')", "1:1: the text is no double"),
        ("string(b'\\xff')", "1:1: the octets are not UTF-8"),
        ("string(b'\\xff' + bytes(conn.client_ip))", "1:1: the octets are not UTF-8"),
        ("timestamp('yesterday')", "1:1: not a timestamp of RFC 3339"),
        ("duration('1 day')", "1:1: not a duration, such as 1h45m or 1.5s"),
        ("'a'.charAt(2)", "1:5: index out of range"),
        ("'a'.charAt(-1)", "1:5: index out of range"),
        ("'abc'.substring(2, 1)", "1:7: index out of range"),
        ("'abc'.substring(4)", "1:7: index out of range"),
        ("'a'.indexOf('a', 2)", "1:5: index out of range"),
        ("'a'.lastIndexOf('a', -1)", "1:5: index out of range"),
        ("[1, 2].map(x, dyn(x)).join()", "1:23: no such overload"),
        ("'%s'.format([])", "1:6: index out of range"),
        ("'%q'.format([1])", "1:6: unknown clause in a format; there are %s %d %f %e %b %o %x %X %%"),
        ("'%'.format([1])", "1:5: unknown clause in a format; there are %s %d %f %e %b %o %x %X %%"),
        ("'%d'.format(['a'])", "1:6: a clause of a format has a value of another type"),
        ("'%.101f'.format([1.0])", "1:10: the precision of a format is no number up to 100"),
        ("base64.decode('Y')", "1:8: the text is not base64"),
        ("base64.decode('YQ=')", "1:8: the text is not base64"),
        ("base64.decode('YR==')", "1:8: the text is not base64"),
        ("base64.decode('Y-==')", "1:8: the text is not base64"),
        ("time.now.getHours(conn.client_ip)", "1:10: the time zone is neither UTC nor an offset"),
        ("[1][1]", "1:4: index out of range"),
        ("[1][-1]", "1:4: index out of range"),
        ("[1][dyn(0.5)]", "1:4: no such overload"),
        ("{'a': 1, 'a': 2}", "1:1: a key is there twice"),
        ("{dyn(1.0): 1}", "1:1: unsupported key type"),
        ("dyn(1) + dyn('a')", "1:8: no such overload"),
        ("!dyn(1)", "1:1: no such overload"),
        ("dyn(1) ? 1 : 2", "1:8: no such overload"),
        ("dyn('a').all(x, true)", "1:10: no such overload"),
        ("[1].filter(x, dyn(x))", "1:5: no such overload"),
    ] {
        assert_eq!(failure(text), told, "{text}");
    }
}
