//! What expressions of a policy may name: each attribute and function, and what is refused.

mod common;

use adit_policy::{
    cel::{Budget, CompileError, Error, Fault, Timestamp, Value},
    environment::{
        Certificate, Connection, Endpoint, Exchange, Extension, Extensions, Head, Name, Phase, Response, Texts, Tls,
    },
};
use http::HeaderMap;

#[test]
fn attributes_and_functions_give_what_the_caller_sent() {
    for text in TRUE {
        assert_eq!(outcome(Phase::HttpResponse, text), Ok("Bool(true)".into()), "{text}");
    }
}

#[test]
fn a_certificate_of_the_caller_is_seen_in_its_parts() {
    let texts = |texts: &[&str]| Texts(texts.iter().map(|text| (*text).into()).collect());
    let subject = Name {
        text: "CN=Client,O=Acme,C=DE".into(),
        common_name: "Client".into(),
        country: texts(&["DE"]),
        organization: texts(&["Acme"]),
        ..Name::default()
    };
    let certificate = Certificate {
        verified: true,
        fingerprint: "ab".repeat(32),
        pem: "-----BEGIN CERTIFICATE-----\n".into(),
        serial_number: "1f".into(),
        signature_algorithm: "ECDSA-SHA256".into(),
        subject,
        issuer: Name { text: "CN=CA".into(), common_name: "CA".into(), ..Name::default() },
        dns_names: texts(&["c.example"]),
        email_addresses: texts(&["c@c.example"]),
        ip_addresses: texts(&["192.0.2.1"]),
        uris: texts(&["spiffe://c"]),
        not_before: now(),
        not_after: now(),
        extensions: Extensions(vec![Extension { id: "2.5.29.15".into(), critical: true, value: vec![3, 2] }]),
    };
    let connection = connection(Some(Tls::default())).with_client_certificate(certificate).with_resumption();
    let exchange = Exchange::new(&connection, ENDPOINT, now());
    for text in [
        "conn.tls.client.subject == 'CN=Client,O=Acme,C=DE' && conn.tls.client.subject.common_name == 'Client'",
        "conn.tls.client.subject.country == ['DE'] && 'Acme' in conn.tls.client.subject.organization",
        "conn.tls.client.subject.locality == [] && conn.tls.client.issuer.common_name == 'CA'",
        "conn.tls.client.san == 'DNS:c.example, email:c@c.example, IP Address:192.0.2.1, URI:spiffe://c'",
        "conn.tls.client.san.dns_names[0] == 'c.example' && conn.tls.client.san.uris.exists(it, it.startsWith('spiffe:'))",
        "conn.tls.client.validity.not_after == time.now && conn.tls.client.serial_number == '1f'",
        "conn.tls.client.extensions[0] == {'id': '2.5.29.15', 'critical': true, 'value': b'\\003\\002'}",
        "has(conn.tls.client.pem) && conn.tls.session_resumed",
    ] {
        let program = Phase::TcpConnect.environment().compile(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let value = program.evaluate(&exchange, &mut Budget::default()).map(|value| value.as_bool());
        assert_eq!(value, Ok(Some(true)), "{text}");
    }
}

#[test]
fn what_can_never_be_right_is_refused_when_it_is_compiled() {
    for (phase, text, told) in [
        (
            Phase::TcpConnect,
            "inCidrRange(conn.client_ip, '10.0.0.0/33')",
            "1:29: the prefix of `10.0.0.0/33` is no number from 0 to 32",
        ),
        (
            Phase::TcpConnect,
            "true ||\n inCidrRanges(conn.client_ip, ['10.0.0.0/8', 'ten'])",
            "2:31: `ten` is no IP address and no network; write `10.1.2.3`, `10.0.0.0/8` or `2001:db8::/32`",
        ),
        (
            Phase::TcpConnect,
            "inCidrRanges(conn.client_ip, ['10.0.0.0/8', dyn(1)])",
            "1:30: a network is a string, not of type int",
        ),
        (
            Phase::TcpConnect,
            "inCidrRange('client', '10.0.0.0/8')",
            "1:13: `client` is no IP address; write `10.1.2.3`, `2001:db8::1` or `conn.client_ip`",
        ),
        (
            Phase::TcpConnect,
            "inCidrRange(conn.client_ip, ['10.0.0.0/8'])",
            "1:1: there is no `inCidrRange(string, list(string))`; there is `inCidrRange(string, string)`",
        ),
        (
            Phase::HttpRequest,
            "hasReqHeader('x-api-key:')",
            "1:14: `x-api-key:` can be no name of a header; write it as in `x-api-key`",
        ),
        (Phase::TcpConnect, "hash.md5(conn.client_ip, 'hax') == ''", "1:26: the format of a hash is `hex` or `base64`"),
        (
            Phase::HttpRequest,
            "getReqHeader('')[0] == 'a'",
            "1:14: `` can be no name of a header; write it as in `x-api-key`",
        ),
        (Phase::TcpConnect, "req.method == 'GET'", "1:5: unknown attribute `req.method`"),
        (Phase::TcpConnect, "hasReqHeader('a')", "1:1: unknown function `hasReqHeader`"),
        (Phase::HttpRequest, "res.status_code == 200", "1:5: unknown attribute `res.status_code`"),
        (Phase::HttpRequest, "hasResHeader('a')", "1:1: unknown function `hasResHeader`; did you mean `hasReqHeader`?"),
        (
            Phase::HttpRequest,
            "conn.geo.country_code == 'DE'",
            "1:10: `conn.geo` is not available; there is no database of places here; match `conn.client_ip` with `inCidrRanges`",
        ),
        (
            Phase::HttpRequest,
            "req.user_agent.is_bot",
            "1:16: `req.user_agent.is_bot` is not available; there is no database of programs here; match the text of `req.user_agent`",
        ),
        (
            Phase::HttpRequest,
            "secrets.get('a', 'b') == ''",
            "1:9: `secrets.get` is not available; there is no vault here; write the secret into the policy, a file that only the network may read",
        ),
        (
            Phase::HttpResponse,
            "'a' in res.trailers['b']",
            "1:12: `res.trailers` is not available; rules run before trailers come, which follow the body",
        ),
        (Phase::HttpRequest, "req.url.hots == 'a'", "1:9: a value of type string has no field `hots`"),
        (
            Phase::HttpRequest,
            "conn.client_port == '1'",
            "1:18: there is no `int == string`; the two are never equal; convert one of them",
        ),
    ] {
        assert_eq!(outcome(phase, text), Err(told.into()), "{text}");
    }
}

#[test]
fn what_cannot_be_answered_is_an_error_and_never_false() {
    for (text, told) in [
        ("inCidrRange(conn.client_ip, req.method)", "1:1: the text is no IP address and no network"),
        ("!inCidrRange(req.method, '10.0.0.0/8')", "1:2: the text is no IP address"),
        ("inCidrRanges(conn.client_ip, [conn.client_ip, req.method])", "1:1: the text is no IP address and no network"),
        ("inCidrRanges(conn.client_ip, [dyn(conn.client_port)])", "1:1: the text is no IP address and no network"),
        ("getReqCookie('none').value == ''", "1:1: no such key"),
        ("req.headers['x-none'][0] == ''", "1:12: no such key"),
        ("getReqHeader('x-none')[0] == ''", "1:23: index out of range"),
        ("res.content_length > 0", "1:5: no such attribute"),
        ("hash.sha256('a', req.method) == ''", "1:6: the format of a hash is `hex` or `base64`"),
        ("[1, req.method].sort() == []", "1:17: no such overload"),
        ("[double('nan'), 1.0 + double(req.url.port)].sort() == []", "1:45: no such overload"),
        ("[dyn(1), req.method].sortBy(x, x) == []", "1:22: no such overload"),
        ("[req.method].slice(1, 0) == []", "1:14: index out of range"),
        ("[[req.method]].flatten(-1) == []", "1:16: the depth is negative"),
        ("rand.int(5, 4) == 5", "1:6: the bounds are negative, or the first is more than the second"),
        ("json.decode(req.method) == 1", "1:6: the text is not JSON"),
        ("url.unescape(req.method + '%zz') == ''", "1:5: the text has an escape that is none"),
        ("getResCookie('none').value == ''", "1:1: no such key"),
        ("basic_auth.encode('a:b', req.method) == ''", "1:12: the name of a user has a colon"),
    ] {
        assert_eq!(outcome(Phase::HttpResponse, text), Err(told.into()), "{text}");
    }
}

#[test]
fn what_is_not_there_yet_is_an_error() {
    let connection = connection(None);
    let exchange = Exchange::new(&connection, ENDPOINT, now());

    for (phase, text) in [
        (Phase::TcpConnect, "conn.tls.sni == 'a'"),
        (Phase::HttpRequest, "req.method == 'GET'"),
        (Phase::HttpRequest, "hasReqHeader('a')"),
        (Phase::HttpRequest, "!hasQueryParam('a')"),
        (Phase::HttpResponse, "getResHeader(conn.client_ip) == []"),
    ] {
        let program = phase.environment().compile(text).expect(text);
        let error = program.evaluate(&exchange, &mut Budget::default()).expect_err(text);
        assert_eq!(error.fault, Fault::NoSuchAttribute, "{text}");
    }
}

/// Who has shown no certificate is nobody, and a rule that asks who it is cannot be answered.
#[test]
fn without_a_certificate_nobody_is_verified_and_nothing_is_known_of_it() {
    let connection = connection(Some(Tls::default()));
    let exchange = Exchange::new(&connection, ENDPOINT, now());
    let evaluate = |text: &str| {
        let program = Phase::TcpConnect.environment().compile(text).expect(text);
        program.evaluate(&exchange, &mut Budget::default()).map(|value| value.as_bool()).map_err(|error| error.fault)
    };

    assert_eq!(evaluate("conn.tls.client.verified"), Ok(Some(false)));
    assert_eq!(evaluate("conn.tls.client.fingerprint == ''"), Err(Fault::NoSuchAttribute));
    assert_eq!(evaluate("conn.tls.client.san.dns_names == []"), Err(Fault::NoSuchAttribute));
}

/// A list of the policy is read when it is compiled: a long one costs no more than a short one.
#[test]
fn a_long_list_of_networks_costs_as_much_as_a_short_one() {
    let cost = |count: usize| {
        let networks: Vec<String> = (0..count).map(|n| format!("'10.{}.{}.0'", n / 256, n % 256)).collect();
        let text = format!("inCidrRanges(conn.client_ip, [{}])", networks.join(","));
        let program = Phase::TcpConnect.environment().compile(&text).expect(&text);
        let connection = connection(None);
        let exchange = Exchange::new(&connection, ENDPOINT, now());
        let mut budget = Budget::default();
        let value = program.evaluate(&exchange, &mut budget).map(|value| value.as_bool());
        assert_eq!(value, Ok(Some(false)));
        (Budget::default().steps() - budget.steps(), Budget::default().octets() - budget.octets())
    };

    assert_eq!(cost(1_000), cost(1));
    assert_eq!(cost(1), (3, 0));
}

/// A list that is made while it is evaluated costs steps for each network.
#[test]
fn a_list_that_is_made_is_within_the_budget() {
    let program = Phase::TcpConnect.environment().compile("inCidrRanges(conn.client_ip, vars.list)").unwrap();
    let connection = connection(None);
    let mut endless = Budget::new(u64::MAX, u64::MAX);
    let list = Value::list(vec!["10.0.0.0/8".into(); 100], &mut endless).unwrap();
    let mut exchange = Exchange::new(&connection, ENDPOINT, now());
    let Value::Map(vars) = Value::map(vec![("list".into(), list)], &mut endless).unwrap() else { panic!("no map") };
    exchange.vars = vars;

    let outcome = |steps| program.evaluate(&exchange, &mut Budget::new(steps, 0)).map(|value| value.as_bool());

    assert_eq!(outcome(300), Ok(Some(false)));
    assert!(outcome(200).is_err_and(|error| error.fault.is_limit()));
}

#[test]
fn the_host_of_an_authority_is_told_without_brackets_and_port() {
    for (authority, host, port) in [
        ("a.example", "a.example", None),
        ("a.example:80", "a.example", Some(80)),
        ("[2001:db8::1]", "2001:db8::1", None),
        ("[2001:db8::1]:8080", "2001:db8::1", Some(8080)),
    ] {
        let (connection, headers) = (connection(None), sent());
        let exchange = Exchange::new(&connection, ENDPOINT, now()).with_request(Head { authority, ..head(&headers) });
        let value = |text: &str| {
            let program = Phase::HttpRequest.environment().compile(text).expect(text);
            program.evaluate(&exchange, &mut Budget::default()).ok().map(|value| format!("{value:?}"))
        };

        assert_eq!(value("req.url.host"), Some(format!("String({host:?})")), "{authority}");
        assert_eq!(value("req.url.port"), port.map(|port: u16| format!("Int({port})")), "{authority}");
    }
}

#[test]
fn the_documents_have_what_expressions_may_name() {
    let source = include_str!("../src/environment/mod.rs");
    let page = include_str!("../../docs/policy.md");
    let rows: Vec<_> = source.lines().filter_map(|line| line.strip_prefix("//! |")).collect();

    assert!(rows.len() > 40);
    for row in rows {
        assert!(page.lines().any(|line| line.strip_prefix('|') == Some(row)), "docs/policy.md has no row |{row}");
    }
}

/// Returns what an expression is for the usual exchange, or why it is nothing.
fn outcome(phase: Phase, text: &str) -> Result<String, String> {
    let program = phase.environment().compile(text).map_err(|error: CompileError| error.to_string())?;
    let tls = Tls {
        version: "1.3".into(),
        cipher_suite: "TLS_AES_128_GCM_SHA256".into(),
        sni: "a.example".into(),
        alpn: "h2".into(),
    };
    let connection = connection(Some(tls));
    let answer = common::headers(&[("X-A", b"1"), ("content-type", b"text/html; charset=utf-8"),
        ("content-encoding", b"gzip, br"),
        ("location", b"/x"),
        ("set-cookie", b"a=1; Secure"),
        ("set-cookie", b"a=long; Path=/long"),
        ("set-cookie", b"b=\"2\"; Expires=Wed, 09-Jun-2021 10:18:14 GMT; Max-Age=60; HttpOnly; SameSite=Lax; Domain=.a.example; Partitioned"),
        ("set-cookie", b"no name"),
    ]);
    let headers = sent();
    let exchange = Exchange::new(&connection, ENDPOINT, now())
        .with_request(head(&headers))
        .with_response(Response::new(404, &answer));
    let value = program.evaluate(&exchange, &mut Budget::default()).map_err(|error: Error| error.to_string())?;
    Ok(format!("{value:?}"))
}

const ENDPOINT: Endpoint<'static> = Endpoint { id: "ep_1", protocol: "https", host: "a.example", port: 443 };

fn now() -> Timestamp {
    Timestamp::new(1_234_567_950, 0).expect("in range")
}

/// The socket listens for both families: it has an IPv4 caller as an IPv6 one.
fn connection(tls: Option<Tls>) -> Connection {
    let start = Timestamp::new(1_234_567_890, 0).expect("in range");
    Connection::new(
        "[::ffff:192.0.2.7]:40000".parse().expect("an address"),
        "[2001:db8::1]:443".parse().expect("an address"),
        start,
        tls,
    )
    .with_region("eu")
}

fn sent() -> HeaderMap {
    common::headers(&[
        ("User-Agent", b"curl/8"),
        ("x-team", b"one"),
        ("cookie", b"id=7; q=\"a b\"; =x; h=X-Team"),
        ("X-Team", b"two"),
        ("x-odd", b"a\xff"),
        ("content-type", b"text/plain ; charset=utf-8"),
        ("Cookie", b"id=8"),
        ("content-length", b"12"),
    ])
}

fn head(headers: &HeaderMap) -> Head<'_> {
    Head {
        method: "POST",
        scheme: "https",
        authority: "a.example:8443",
        path: "/a/b",
        query: "x=1&y=%C3%A9+%2&x=2&z&",
        version: "HTTP/2.0",
        headers,
        received: now(),
    }
}

/// What is true of the usual exchange.
const TRUE: &[&str] = &[
    "conn.client_ip == '192.0.2.7' && conn.client_port == 40000 && conn.server_ip == '2001:db8::1' && conn.server_port == 443",
    "conn.ts.start == timestamp('2009-02-13T23:31:30Z') && time.now - conn.ts.start == duration('60s')",
    "conn.tls.version == '1.3' && conn.tls.cipher_suite == 'TLS_AES_128_GCM_SHA256'",
    "conn.tls.sni == 'a.example' && conn.tls.negotiated_alpn == 'h2'",
    "endpoint.id == 'ep_1' && endpoint.protocol == 'https' && endpoint.host == 'a.example' && endpoint.port == 443",
    "size(vars) == 0 && !has(vars.x) && size(actions.ngrok) == 0 && !('log' in actions.ngrok)",
    "req.method == 'POST' && req.version == 'HTTP/2.0' && req.host == 'a.example:8443' && req.url.authority == req.host",
    "req.url == 'https://a.example:8443/a/b?x=1&y=%C3%A9+%2&x=2&z&' && req.url.scheme == 'https'",
    "req.url.host == 'a.example' && req.url.port == 8443 && req.url.path == '/a/b' && req.url.query.startsWith('x=1&')",
    "req.url.query_params == {'x': ['1', '2'], 'y': ['é %2'], 'z': ['']}",
    "req.headers['x-team'] == ['one', 'two'] && 'X-Team' in req.headers && req.headers['x-odd'] == ['a\\ufffd']",
    "req.headers.exists(name, name == 'user-agent') && size(req.headers) == 6",
    "req.cookies['id'].map(c, c.value) == ['7', '8'] && req.cookies.id[0].name == 'id' && req.cookies['q'][0].value == 'a b'",
    "req.user_agent == 'curl/8' && req.content_type == 'text/plain' && req.content_length == 12",
    "req.ts.header_received == time.now",
    "res.status_code == 404 && res.headers['x-a'] == ['1'] && res.content_type == 'text/html' && !has(res.content_length)",
    "conn.server_region == 'eu' && !conn.tls.session_resumed && !has(conn.tls.client.pem)",
    "endpoint.addr == 'a.example:443' && endpoint.url == 'https://a.example'",
    "req.url.uri == '/a/b?' + req.url.query && req.url.user_password == '' && req.location == ''",
    "req.content_type.raw == 'text/plain ; charset=utf-8' && req.content_type.parameters == {'charset': 'utf-8'}",
    "req.content_encoding == [] && res.content_encoding == ['gzip', 'br'] && res.location == '/x'",
    "res.cookies['a'].map(c, c.value) == ['long', '1'] && res.cookies['a'][0].path == '/long' && res.cookies['a'][1].secure",
    "getResCookie('a').value == 'long' && hasResCookie('b') && !hasResCookie('c') && size(res.cookies) == 2",
    "res.cookies.b[0].expires == timestamp('2021-06-09T10:18:14Z') && res.cookies.b[0].max_age == duration('60s')",
    "res.cookies.b[0].http_only && res.cookies.b[0].same_site == 'Lax' && res.cookies.b[0].domain == 'a.example'",
    "res.cookies.b[0].unparsed_attributes == {'Partitioned': ''} && !has(res.cookies['a'][0].expires)",
    // addresses
    "inCidrRange(conn.client_ip, '192.0.2.0/24') && !inCidrRange(conn.client_ip, '198.51.100.0/24')",
    "inCidrRange('::ffff:10.0.0.1', '10.0.0.0/8') && inCidrRange('10.0.0.1', '::ffff:10.0.0.0/104')",
    "inCidrRanges(conn.client_ip, ['10.0.0.0/8', '192.0.2.7']) && !inCidrRanges(conn.client_ip, [])",
    "inCidrRange(conn.client_ip, conn.client_ip + '/24') && !inCidrRange(conn.server_ip, conn.client_ip)",
    "inCidrRanges(conn.server_ip, [conn.client_ip, '2001:db8::/32']) && !inCidrRanges(conn.server_ip, [conn.client_ip])",
    "inCidrRange(dyn(conn.client_ip), '192.0.2.0/24')",
    // headers, in whatever case
    "hasReqHeader('X-Team') && hasReqHeader('x-TEAM') && !hasReqHeader('x-none') && hasReqHeader('X-' + 'Team')",
    "hasReqHeader(string(req.cookies['h'][0].value)) && getReqHeader(req.cookies['h'][0].value) == ['one', 'two']",
    "getReqHeader('X-Team') == ['one', 'two'] && getReqHeader('x-none') == []",
    "hasResHeader('X-A') && getResHeader('x-A') == ['1'] && !hasResHeader('x-team') && getResHeader('x-team') == []",
    // query and cookies, in their case
    "hasQueryParam('x') && !hasQueryParam('X') && getQueryParam('x') == ['1', '2'] && getQueryParam('n') == []",
    "hasReqCookie('id') && !hasReqCookie('ID') && getReqCookie('id').value == '7' && getReqCookie('id').name == 'id'",
    // texts
    "url.escape('i;md/r/$y é') == 'i%3Bmd%2Fr%2F%24y%20%C3%A9' && 'a+b%2Fc'.unescapeUrl() == 'a b/c'",
    "url.parse('https://u:p@b.example:81/c?d=e#f') == {'scheme': 'https', 'user_password': 'u:p', 'host': 'b.example:81', 'hostname': 'b.example', 'port': '81', 'path': '/c', 'query': 'd=e', 'fragment': 'f'}",
    "url.parse('https://ngrok.com') == {'host': 'ngrok.com', 'hostname': 'ngrok.com', 'scheme': 'https'}",
    "'https://ngrok.com'.isURL() && !'not a url'.isURL() && !'/a'.isURL()",
    "queryString.decode('a=b&c=d%20e&a=x&%') == {'a': 'b', 'c': 'd e', '%': ''}",
    "queryString.encode({'b': 'c d', 'a': ['1', '2']}) == 'a=1&a=2&b=c%20d' && {'a': 1}.encodeQueryString() == 'a=1'",
    "'a=b&c=d'.isQueryString() && !'not a query string'.isQueryString() && !''.isQueryString()",
    "'some:thing'.encodeBase64() == 'c29tZTp0aGluZw==' && 'c29tZTp0aGluZw=='.decodeBase64() == 'some:thing'",
    "'Ärger, ЙОГА'.lower() == 'ärger, йога' && 'straße'.upper() == 'STRASSE'",
    "'10.0.0.1'.isPrivateIp() && '::ffff:192.168.0.1'.isPrivateIp() && !'8.8.8.8'.isPrivateIp() && !'x'.isPrivateIp()",
    // JSON
    "json.decode('{\"a\": [1, 2.5, -0, null, true, \"\\\\u00e9\\\\ud83d\\\\ude00\"]}') == {'a': [1, 2.5, 0, null, true, 'é😀']}",
    "json.encode({'b': [1, 2u, 1.5, null], 'a': 'x\\n\\\"'}) == '{\"a\":\"x\\\\n\\\\\"\",\"b\":[1,2,1.5,null]}' && [].encodeJson() == '[]'",
    "'{\"a\":\"b\"}'.isJson() && !'not json'.isJson() && !'[1,]'.isJson() && !'01'.isJson() && !'{\"a\":1,\"a\":2}'.isJson() && !'1 2'.isJson()",
    "json.encode(req.content_type.parameters) == '{\"charset\":\"utf-8\"}'",
    // lists
    "[1, 2, 3, 4].slice(1, 3) == [2, 3] && [1, [2, [3, 4]], []].flatten() == [1, 2, [3, 4]] && [1, [2, [3, [4]]]].flatten(2) == [1, 2, 3, [4]]",
    "[{'a': 2, 'b': 'x'}, {'a': 1, 'b': 'y'}, {'a': 2, 'b': 'z'}].sortBy(it, it.a).map(it, it.b) == ['y', 'x', 'z'] && [].sortBy(x, x) == []",
    "has(req.headers['x-team']) && !has(req.headers['x-none']) && has(res.cookies['a'])",
    "[3, 1, 2].sort() == [1, 2, 3] && ['b', 'a'].sort() == ['a', 'b'] && [1, 2, 2, 1.0].distinct() == [1, 2] && lists.range(3) == [0, 1, 2] && lists.range(-1) == []",
    // chance
    "lists.range(20).all(x, rand.double() < 1.0 && rand.double() >= 0.0 && rand.int(3, 5) in [3, 4, 5] && rand.int() in [0, 1])",
    "rand.double() != rand.double() && rand.int(7, 7) == 7 && rand.int(0, 9223372036854775807) != rand.int(0, 9223372036854775807)",
    "basic_auth.encode('username', 'password1') == 'Basic dXNlcm5hbWU6cGFzc3dvcmQx'",
    "basic_auth.encode('a', conn.client_ip) == 'Basic YToxOTIuMC4yLjc='",
    // hashes, as ngrok's documentation has them
    "hash.crc32('hello') == '3610a686' && hash.crc32('hello', 'hex') == '3610a686' && 'hello'.crc32('base64') == 'NhCmhg=='",
    "hash.crc64('hello') == '3c3eeee2d8100000' && 'hello'.crc64() == '3c3eeee2d8100000' && hash.crc64('hello', 'base64') == 'PD7u4tgQAAA='",
    "hash.md5('hello') == '5d41402abc4b2a76b9719d911017c592' && 'hello'.md5('base64') == 'XUFAKrxLKna5cZ2REBfFkg=='",
    "hash.sha1('hello') == 'aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d' && 'hello'.sha1('base64') == 'qvTGHdzF6KLavt4PO0gs2a6pQ00='",
    "hash.sha256('hello') == '2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824'",
    "'hello'.sha256('base64') == 'LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ='",
    "hash.sha512('hello').startsWith('9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca7')",
    "'hello'.sha512('base64') == 'm3HSJL1i83hdltRq0+o9czGb+8KJDKra4t/3JRlnPKcjI8PZm6XBHXx6zG4UuMXaDEZjR1wuXDre9G9zvN7AQw=='",
    "hash.xxhash64('hello') == '26c7827d889f6da3' && 'hello'.xxhash64('base64') == 'JseCfYifbaM='",
    "hash.xxhash64('') == 'ef46db3751d8e999' && hash.xxhash64('a') == 'd24ec4f1a98c6e5b'",
    "hash.xxhash64('The quick brown fox jumps over the lazy dog') == '0b242d361fda71bc'",
    "hash.md5(conn.client_ip) == conn.client_ip.md5('hex') && hash.md5(req.method, 'base64') == req.method.md5('base64')",
];
