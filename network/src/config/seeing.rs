//! What the operator sees: sections `log.access` and `opentelemetry`.

use std::path::{Path, PathBuf};

use http::{HeaderName, HeaderValue, Uri};

use super::{section::Section, values};
use crate::seeing::Sample;

/// What the access log has, and where it goes. The defaults name nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logged {
    /// `to`: stderr (the default, in the format of the log), stdout, none, or a file; the latter in JSON.
    pub to: AccessTo,
    /// `address`: of callers.
    pub address: AddressForm,
    /// `path`: of requests; false, as it may be somebody's data.
    pub path: bool,
    /// `query`: of requests; false, as secrets stand there.
    pub query: bool,
    /// `user_agent`: the program of the caller; false.
    pub user_agent: bool,
}

/// Where the access log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccessTo {
    /// Standard error, among the log.
    #[default]
    Stderr,
    /// Standard output.
    Stdout,
    /// Nowhere.
    None,
    /// A file, opened again at SIGHUP.
    File(PathBuf),
}

/// How much of an address is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressForm {
    /// All of it.
    Full,
    /// The network that it is in: /24, and /48 of IPv6.
    #[default]
    Truncated,
    /// Nothing.
    None,
}

/// Where spans go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// `endpoint`: the collector, without `/v1/traces`.
    pub endpoint: Uri,
    /// `sample`: the share of requests, 0.01.
    pub sample: Sample,
    /// `headers`: what the collector wants to be shown.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

pub(super) fn access(mut section: Section<'_>, folder: &Path) -> Logged {
    let logged = Logged {
        to: section.value("to", AccessTo::Stderr, "stderr, stdout, none or a file", |text| match text {
            "" => None,
            "stderr" => Some(AccessTo::Stderr),
            "stdout" => Some(AccessTo::Stdout),
            "none" => Some(AccessTo::None),
            path => Some(AccessTo::File(folder.join(path))),
        }),
        address: section.value("address", AddressForm::Truncated, "full, truncated or none", |text| match text {
            "full" => Some(AddressForm::Full),
            "truncated" => Some(AddressForm::Truncated),
            "none" => Some(AddressForm::None),
            _ => None,
        }),
        path: section.value("path", false, "true or false", values::flag),
        query: section.value("query", false, "true or false", values::flag),
        user_agent: section.value("user_agent", false, "true or false", values::flag),
    };
    section.finish();
    logged
}

pub(super) fn telemetry(root: &mut Section<'_>) -> Option<Telemetry> {
    let present = root.has("opentelemetry");
    let mut section = root.section("opentelemetry");
    let named = section.has("endpoint");
    let endpoint = section.value(
        "endpoint",
        None,
        "an address such as http://127.0.0.1:4318 (without TLS: a collector beside the network has that)",
        |text| collector(text).map(Some),
    );
    let share = |text: &str| text.parse().ok().and_then(Sample::new);
    let sample = section.value("sample", Sample::default(), "a share from 0 to 1", share);
    let mut headers = Vec::new();
    for (name, scalar) in section.pairs("headers") {
        let value = HeaderValue::from_str(&scalar.text);
        match (HeaderName::from_bytes(name.as_bytes()), value) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                headers.push((name, value));
            }
            // What the value is stays out of the fault: it may be a secret.
            _ => section.reject("headers", &scalar, "not the name and value of a header", "Correct it"),
        }
    }
    if present && endpoint.is_none() && !named {
        section.missing("endpoint", "opentelemetry needs the address of a collector", "Set opentelemetry.endpoint");
    }
    section.finish();
    endpoint.map(|endpoint| Telemetry { endpoint, sample, headers })
}

fn collector(text: &str) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let plain = uri.scheme_str() == Some("http") && uri.query().is_none();
    let authority = uri.authority()?;
    (plain && !authority.as_str().contains('@') && !authority.host().is_empty()).then_some(uri)
}
