//! The section `agent.local`: what programs on this machine may ask the running agent.

use core::net::SocketAddr;

use super::{
    CaptureConfig, LocalConfig, SocketMode, SocketPlace,
    section::{Scalar, Section},
    values::count,
};

/// Reads the section.
pub(super) fn read(mut section: Section<'_, '_>) -> LocalConfig {
    let socket = match section.path("socket") {
        None => SocketPlace::Default,
        Some((_, scalar)) if scalar.text == "off" || scalar.text == "false" => SocketPlace::Off,
        Some((path, _)) => SocketPlace::At(path),
    };
    let mode = section.value("mode", SocketMode::Owner, "0600 or 0660: others never may", |text| match text {
        "0600" | "600" => Some(SocketMode::Owner),
        "0660" | "660" => Some(SocketMode::Group),
        _ => None,
    });
    let address = section.scalar("address").and_then(|scalar| address(&section, &scalar));
    let token_file = section.file("token_file").map(|(file, _)| file);
    let capture = capture(section.section("capture"));
    section.finish();
    LocalConfig { socket, mode, address, token_file, capture }
}

fn address(section: &Section<'_, '_>, scalar: &Scalar) -> Option<SocketAddr> {
    match scalar.text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Some(address),
        Ok(_) => {
            let remedy = "Write 127.0.0.1:4040; from elsewhere come through SSH";
            section.reject("address", scalar, "not a loopback address: what is said there is not encrypted", remedy);
            None
        }
        Err(_) => {
            let problem = format!("`{}` is not an address and a port", scalar.text.escape_debug());
            section.reject("address", scalar, &problem, "Write 127.0.0.1:4040");
            None
        }
    }
}

fn capture(mut section: Section<'_, '_>) -> CaptureConfig {
    let default = CaptureConfig::default();
    let within =
        |least: usize, most: usize| move |text: &str| count(text).filter(|count| (least..=most).contains(count));
    let config = CaptureConfig {
        requests: section.value("requests", default.requests, "a number from 0 to 1000", within(0, 1_000)),
        head: section.value("head", default.head, "a number from 1024 to 65536", within(1_024, 65_536)),
        body: section.value("body", default.body, "a number from 0 to 1048576", within(0, 1 << 20)),
        redact: section.scalars("redact").into_iter().map(|scalar| scalar.text).collect(),
    };
    section.finish();
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Overrides, Text};

    fn read(keys: &str) -> Result<LocalConfig, String> {
        let text = format!("version: 1\nagent:\n  connect_url: localhost:1\n  local: {keys}\n");
        let parsed = Config::parse(&["dir/a.yml".into()], &[Text { text, mode: Some(0o600) }], &Overrides::default());
        let told = |faults: Vec<_>| faults.iter().map(ToString::to_string).collect();
        parsed.map(|config| config.agent.local).map_err(told)
    }

    #[test]
    fn without_a_word_there_is_a_socket_for_the_owner_no_tcp_and_no_capture() {
        let local = read("{}").unwrap();

        assert_eq!(local, LocalConfig::default());
        assert_eq!((local.socket, local.mode.bits(), local.address), (SocketPlace::Default, 0o600, None));
        assert_eq!(local.capture.requests, 0);
    }

    #[test]
    fn every_key_is_read() {
        let keys = "{ socket: a.sock, mode: 0660, address: '[::1]:4040', token_file: t, \
                    capture: { requests: 50, head: 8_192, body: 0, redact: [x-pin, session] } }";

        let local = read(keys).unwrap();

        assert_eq!(local.socket, SocketPlace::At("dir/a.sock".into()));
        assert_eq!((local.mode, local.token_file), (SocketMode::Group, Some("dir/t".into())));
        assert_eq!(local.address.unwrap().to_string(), "[::1]:4040");
        let redact = vec!["x-pin".to_owned(), "session".to_owned()];
        assert_eq!(local.capture, CaptureConfig { requests: 50, head: 8_192, body: 0, redact });
        assert_eq!(read("{ socket: off }").unwrap().socket, SocketPlace::Off);
    }

    #[test]
    fn what_would_let_others_in_is_a_fault() {
        for (keys, expected) in [
            ("{ mode: 0666 }", "`0666` is not 0600 or 0660"),
            ("{ address: '0.0.0.0:4040' }", "not a loopback address"),
            ("{ address: '192.0.2.1:4040' }", "not a loopback address"),
            ("{ address: 'localhost:4040' }", "is not an address and a port"),
            ("{ capture: { requests: 1001 } }", "is not a number from 0 to 1000"),
            ("{ capture: { body: 2_000_000 } }", "is not a number from 0 to 1048576"),
            ("{ capture: { cookies: 1 } }", "unknown key"),
        ] {
            let told = read(keys).unwrap_err();
            assert!(told.contains(expected), "{keys}: {told}");
        }
    }
}
