//! From what failed between agent and network to an error that says what was seen and what to do.

use adit_core::Cause;
use adit_tokio::{ConnectError, DialError, SetupError};
use rustls::{AlertDescription, CertificateError, Error as TlsError, crypto::CryptoProvider};

use super::{Seen, describe, sha256};
use crate::{
    clock::utc,
    errors::{Error, Fault},
};

#[expect(clippy::wildcard_enum_match_arm, reason = "kinds that are added later are told in their own words")]
/// Says why a dial came to nothing. `seen` is the certificate that was refused, if one was.
pub(crate) fn explain_dial(error: &DialError, seen: Option<&Seen>, provider: &CryptoProvider) -> Error {
    match error {
        DialError::Connect(error) => explain_connect(error),
        DialError::Setup(SetupError::Tls(error)) => explain_tls(error, seen, provider),
        DialError::Setup(SetupError::NotAdit) => {
            Error::new(Fault::NotAdit, "it agreed on TLS, but not on the protocol adit/1".to_owned())
        }
        DialError::Setup(SetupError::Io(error)) => Error::new(Fault::ConnectionLost, error.to_string()),
        DialError::Setup(SetupError::Closed(cause)) => explain_end(cause),
        DialError::Name { .. } => Error::new(Fault::HostUnknown, error.to_string()),
        DialError::Abandoned => Error::new(Fault::ConnectTimeout, error.to_string()),
        _ => Error::new(Fault::ConnectionLost, error.to_string()),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "kinds that are added later are told in their own words")]
fn explain_connect(error: &ConnectError) -> Error {
    let fault = match error {
        ConnectError::Resolve { .. } | ConnectError::NoAddress { .. } => Fault::HostUnknown,
        ConnectError::Refused { .. } => Fault::ConnectRefused,
        ConnectError::Timeout => Fault::ConnectTimeout,
        ConnectError::Unreachable { .. } => Fault::ConnectUnreachable,
        _ => Fault::ConnectUnreachable,
    };
    Error::new(fault, error.to_string())
}

/// Says why a session ended.
pub(crate) fn explain_end(cause: &Cause) -> Error {
    let fault = match cause {
        Cause::Refused(refusal) => return Error::of_session(refusal),
        Cause::Remote(close) => {
            let refusal = adit_core::Refusal { code: close.code, retry_after: None, text: close.text.clone() };
            return Error::of_session(&refusal);
        }
        Cause::Violation(_) => Fault::Protocol,
        Cause::Dead { .. } | Cause::Stalled { .. } => Fault::Silent,
        Cause::HandshakeTimeout => Fault::ConnectTimeout,
        Cause::Local(_) | Cause::Eof { .. } | Cause::Transport(_) | Cause::Unacknowledged | Cause::ResumeExpired => {
            Fault::ConnectionLost
        }
    };
    Error::new(fault, cause.to_string())
}

/// Says why TLS failed.
#[expect(clippy::wildcard_enum_match_arm, reason = "what is not told apart is told in the library's words")]
pub(crate) fn explain_tls(error: &TlsError, seen: Option<&Seen>, provider: &CryptoProvider) -> Error {
    match error {
        TlsError::InvalidCertificate(error) => certificate(error, seen, provider),
        TlsError::NoApplicationProtocol | TlsError::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            Error::new(Fault::NotAdit, "it speaks TLS, but not the protocol adit/1".to_owned())
        }
        TlsError::InvalidMessage(_) => Error::new(Fault::NotAdit, "what it answers is not TLS".to_owned()),
        TlsError::PeerIncompatible(_) | TlsError::AlertReceived(AlertDescription::ProtocolVersion) => {
            Error::new(Fault::NotAdit, format!("it does not speak TLS 1.3: {error}"))
        }
        other => Error::new(Fault::TlsFailed, other.to_string()),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "whatever else is wrong, it is not trusted")]
fn certificate(error: &CertificateError, seen: Option<&Seen>, provider: &CryptoProvider) -> Error {
    if let Some(refused) = seen.and_then(|seen| seen.refused.as_ref()) {
        return refused.told.clone();
    }
    let fault = match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Fault::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Fault::NotYetValid,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Fault::WrongName,
        CertificateError::Revoked => Fault::CertificateRevoked,
        _ => Fault::NotTrusted,
    };
    let known = seen.and_then(|seen| Some((seen, describe(&seen.certificate)?)));
    let Some((seen, shown)) = known else { return Error::new(fault, error.to_string()) };
    let clock = utc(i64::try_from(seen.now.as_secs()).unwrap_or(i64::MAX));
    let detail = match fault {
        Fault::Expired => format!("valid until {}, and this machine's clock says {clock}", utc(shown.not_after)),
        Fault::NotYetValid => format!("valid from {}, and this machine's clock says {clock}", utc(shown.not_before)),
        Fault::WrongName if shown.names.is_empty() => format!("it names no host, and {} was asked for", seen.name),
        Fault::WrongName => format!("it is for {}, and {} was asked for", shown.names.join(", "), seen.name),
        _ => {
            let print = sha256(&seen.certificate, provider).unwrap_or_else(|| "not known".to_owned());
            let Some(reason) = reason(error) else {
                return Error::new(fault, trust_detail(&shown.issuer, &shown.subject, &print));
            };
            format!("{}; {reason}", trust_detail(&shown.issuer, &shown.subject, &print))
        }
    };
    Error::new(fault, detail)
}

fn trust_detail(issuer: &str, subject: &str, print: &str) -> String {
    format!("it was issued by \"{issuer}\" for \"{subject}\", SHA-256 fingerprint {print}")
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the other reasons are told in the library's words")]
fn reason(error: &CertificateError) -> Option<String> {
    match error {
        CertificateError::UnknownIssuer => None,
        other => Some(other.to_string()),
    }
}
