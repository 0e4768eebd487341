//! SOCKS 5 (RFC 1928) with user and password (RFC 1929). Names are sent as they are: the proxy resolves them.

use alloc::{format, string::String, vec::Vec};
use core::net::IpAddr;

use super::{Buffers, Credentials, ProxyError, handshake::Step};

/// How far the talk is.
#[derive(Debug)]
pub(super) struct Socks {
    stage: Stage,
    /// What to say of oneself, if that is asked for.
    login: Option<Login>,
    /// What to ask for.
    request: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Method,
    Login,
    Reply,
}

/// A message that holds a password.
struct Login(Vec<u8>);

impl core::fmt::Debug for Login {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Login(…)")
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        self.0.fill(0);
    }
}

impl Socks {
    /// # Errors
    /// [`ProxyError::CredentialsRefused`] for a user or password that is empty or longer than 255 octets: it cannot be said.
    pub(super) fn new(
        host: &str,
        port: u16,
        credentials: Option<&Credentials>,
        output: &mut Vec<u8>,
    ) -> Result<Self, ProxyError> {
        let login = credentials.map(login).transpose()?;
        match login {
            Some(_) => output.extend_from_slice(&[VERSION, 2, NO_LOGIN, LOGIN]),
            None => output.extend_from_slice(&[VERSION, 1, NO_LOGIN]),
        }
        let mut request = Vec::from([VERSION, 1, 0]);
        match host.parse() {
            Ok(IpAddr::V4(address)) => {
                request.push(1);
                request.extend_from_slice(&address.octets());
            }
            Ok(IpAddr::V6(address)) => {
                request.push(4);
                request.extend_from_slice(&address.octets());
            }
            Err(_) => {
                let length = u8::try_from(host.len()).map_err(|_| ProxyError::Name)?;
                request.extend_from_slice(&[3, length]);
                request.extend_from_slice(host.as_bytes());
            }
        }
        request.extend_from_slice(&port.to_be_bytes());
        Ok(Self { stage: Stage::Method, login, request })
    }

    /// Reads one message, if it is there.
    pub(super) fn step(&mut self, Buffers { output, input }: &mut Buffers) -> Result<Step, ProxyError> {
        let what = match (self.stage, input.first()) {
            (Stage::Method | Stage::Reply, Some(&VERSION)) | (_, None) => None,
            (Stage::Login, Some(1)) => None,
            (Stage::Method, Some(b'H')) => Some("it speaks HTTP"),
            (Stage::Method, Some(0 | 4)) => Some("it speaks SOCKS 4"),
            (Stage::Method | Stage::Login | Stage::Reply, Some(_)) => Some("it does not speak SOCKS 5"),
        };
        if let Some(what) = what {
            return Err(ProxyError::NotAProxy { what });
        }
        match self.stage {
            Stage::Method => {
                let [_, method, ..] = input.as_slice() else { return Ok(Step::More) };
                match (*method, &self.login) {
                    (NO_LOGIN, _) => {
                        output.extend_from_slice(&self.request);
                        self.stage = Stage::Reply;
                    }
                    (LOGIN, Some(login)) => {
                        output.extend_from_slice(&login.0);
                        self.stage = Stage::Login;
                    }
                    (NOTHING_FITS, None) => return Err(ProxyError::CredentialsWanted { offered: String::new() }),
                    (NOTHING_FITS, Some(_)) => return Err(ProxyError::CredentialsRefused { offered: String::new() }),
                    (..) => return Err(ProxyError::NotAProxy { what: "it chose what it was not offered" }),
                }
                input.drain(..2);
                Ok(Step::Again)
            }
            Stage::Login => {
                let [_, status, ..] = input.as_slice() else { return Ok(Step::More) };
                if *status != 0 {
                    return Err(ProxyError::CredentialsRefused { offered: String::new() });
                }
                output.extend_from_slice(&self.request);
                (self.stage, self.login) = (Stage::Reply, None);
                input.drain(..2);
                Ok(Step::Again)
            }
            Stage::Reply => reply(input),
        }
    }
}

fn login(credentials: &Credentials) -> Result<Login, ProxyError> {
    let refused = || ProxyError::CredentialsRefused { offered: String::new() };
    let mut login = Login(Vec::from([1]));
    for part in [credentials.user.as_bytes(), credentials.password.expose()] {
        let length = u8::try_from(part.len()).ok().filter(|length| *length > 0).ok_or_else(refused)?;
        login.0.push(length);
        login.0.extend_from_slice(part);
    }
    Ok(login)
}

/// Reads the reply to the request: its code, and the address that follows, which is of no interest.
fn reply(input: &mut Vec<u8>) -> Result<Step, ProxyError> {
    // Who refuses may leave out the rest.
    if let Some(code) = input.get(1).filter(|code| **code != 0) {
        return Err(refusal(*code));
    }
    let [_, _, _, kind, first, ..] = *input.as_slice() else { return Ok(Step::More) };
    let length = match kind {
        1 => 4,
        3 => 1 + usize::from(first),
        4 => 16,
        _ => return Err(ProxyError::NotAProxy { what: "its reply has an address of no known kind" }),
    };
    let whole = 4 + length + 2;
    if input.len() < whole {
        return Ok(Step::More);
    }
    input.drain(..whole);
    Ok(Step::Done)
}

fn refusal(code: u8) -> ProxyError {
    let said = |text: &str| format!("SOCKS reply {code}, {text}");
    match code {
        1 => ProxyError::Refused { said: said("general failure") },
        2 => ProxyError::Forbidden { said: said("not allowed by its rules") },
        3 => ProxyError::Destination { said: said("network unreachable") },
        4 => ProxyError::Destination { said: said("host unreachable") },
        5 => ProxyError::Destination { said: said("connection refused") },
        6 => ProxyError::Destination { said: said("time to live expired") },
        7 => ProxyError::Refused { said: said("command not supported") },
        8 => ProxyError::Refused { said: said("kind of address not supported") },
        _ => ProxyError::Refused { said: said("unknown") },
    }
}

const VERSION: u8 = 5;
const NO_LOGIN: u8 = 0;
const LOGIN: u8 = 2;
const NOTHING_FITS: u8 = 0xff;
