//! Who is let in: `deny`, `close-connection`, `restrict-ips`.

use adit_policy::{document::Document, engine::Outcome, environment::Phase};

use super::{
    REQUEST, outcome,
    support::{Caller, policy},
};

#[test]
fn deny_and_close_connection_end_the_phase() {
    let mut caller = Caller::new("GET", "https://a.example/");
    for (phase, action, told) in [
        (Phase::TcpConnect, "deny", "refuse 403 Denied"),
        (REQUEST, "deny", "refuse 403 Denied"),
        (REQUEST, "deny, config: {status_code: 599}", "refuse 599 Denied"),
        (Phase::TcpConnect, "close-connection", "close"),
        (REQUEST, "close-connection", "close"),
    ] {
        assert_eq!(outcome(&mut caller, phase, action), told, "{action}");
    }
}

#[test]
fn restrict_ips_serves_who_is_allowed_and_not_denied() {
    for (ip, config, told) in [
        ("192.0.2.7", "{allow: [192.0.2.0/24]}", "continue"),
        ("::ffff:192.0.2.7", "{allow: [192.0.2.0/24]}", "continue"),
        ("192.0.2.7", "{allow: [198.51.100.0/24]}", "refuse 403 Restricted"),
        ("192.0.2.7", "{allow: []}", "refuse 403 Restricted"),
        ("192.0.2.7", "{allow: [192.0.2.0/24], deny: [192.0.2.7]}", "refuse 403 Restricted"),
        ("192.0.2.7", "{allow: [0.0.0.0/0], deny: [192.0.2.0/24], enforce: false}", "continue"),
        ("2001:db8::7", "{allow: [0.0.0.0/0, '::/0'], deny: [0.0.0.0/0]}", "continue"),
        ("2001:db8::7", "{allow: [0.0.0.0/0]}", "refuse 403 Restricted"),
        ("2001:db8::7", "{allow: ['::/0'], deny: ['::/0']}", "refuse 403 Restricted"),
        ("::ffff:10.1.2.3", "{allow: [10.0.0.0/8], deny: [10.1.0.0/16]}", "refuse 403 Restricted"),
        // What expressions name is read like what is written out.
        ("192.0.2.7", "{allow: ['${conn.client_ip}/24']}", "continue"),
        ("192.0.2.7", "{allow: ['${conn.server_ip}', 198.51.100.0/24]}", "refuse 403 Restricted"),
        ("192.0.2.7", "{allow: [192.0.2.0/24], deny: ['${conn.client_ip}']}", "refuse 403 Restricted"),
        ("192.0.2.7", "{allow: [192.0.2.0/24], deny: ['${conn.server_ip}']}", "continue"),
        ("192.0.2.7", "{allow: [192.0.2.0/24], deny: ['${conn.server_region}']}", "refuse 500 Failed(Network)"),
    ] {
        // What a header says never matters.
        let mut caller = Caller::new("GET", "https://a.example/").from(ip).header("x-forwarded-for", "192.0.2.99");
        for phase in Phase::ALL {
            caller.respond(200);
            assert_eq!(outcome(&mut caller, phase, &format!("restrict-ips, config: {config}")), told, "{ip} {config}");
        }
    }
}

#[test]
fn restrict_ips_reads_so_many_networks_each_time_and_no_more() {
    for (count, reads) in [(64, true), (65, false)] {
        let networks = "'${conn.client_ip}', ".repeat(count);
        let text = format!("on_tcp_connect: [{{actions: [{{type: restrict-ips, config: {{allow: [{networks}]}}}}]}}]");
        assert_eq!(Document::parse(&text).is_ok(), reads, "{count}");
    }
}

#[test]
fn restrict_ips_tells_what_it_would_do_and_why() {
    let text = "\
on_http_request:
  - actions:
      - {type: restrict-ips, config: {enforce: false, allow: [192.0.0.0/8, 192.0.2.0/24, '::/0'], deny: [192.0.2.64/26]}}
      - {type: custom-response, config: {body: \"${actions.ngrok.restrict_ips.action} ${actions.ngrok.restrict_ips.matched_cidr} ${actions.ngrok.restrict_ips.error.code}.\"}}
";
    let policy = policy(text);
    for (ip, told) in [
        ("192.0.2.7", "allow 192.0.2.0/24 ."),
        ("192.9.2.7", "allow 192.0.0.0/8 ."),
        ("::ffff:192.0.2.66", "deny 192.0.2.64/26 ."),
        ("2001:db8::1", "allow ::/0 ."),
        ("10.0.0.1", "deny  ."),
    ] {
        let outcome = Caller::new("GET", "https://a.example/").from(ip).run(&policy, REQUEST).0;
        let Outcome::Respond(response) = outcome else { panic!("{outcome:?}") };
        assert_eq!(String::from_utf8_lossy(response.body()), told, "{ip}");
    }
}
