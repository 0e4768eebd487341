//! What services sign of a call.

use core::fmt::Write as _;

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};
use http::{HeaderMap, header};

use super::{Call, Part, Place, Refused, Scheme, form, inner, listed, one, unhex};

/// The most headers that one call may sign.
const MOST_HEADERS: usize = 64;

impl Scheme {
    /// Returns what is signed of a call.
    pub(super) fn message(&self, call: &Call<'_>, time: Option<&str>) -> Result<Vec<u8>, Refused> {
        let mut message = Vec::with_capacity(call.body.len() + 128);
        for part in self.signed {
            match part {
                Part::Body => message.extend(call.body),
                Part::Time => message.extend(time.ok_or(Refused::Form)?.bytes()),
                Part::Text(text) => message.extend(text.bytes()),
                Part::Header(name) => message.extend(one(call.headers, name)?.bytes()),
                Part::Url => message.extend(call.url.bytes()),
                Part::ReadUrl => message.extend(read_url(call.url).bytes()),
                Part::Sorted => message.extend(sorted(call)?.bytes()),
                Part::Verb => message.extend(call.method.bytes()),
                Part::Fields => fields(call, &mut message)?,
                Part::Canonical => canonical(call, &mut message)?,
                Part::Envelope => message.extend(envelope(self.place, call, time.ok_or(Refused::Form)?)?.bytes()),
                Part::Inner(names) => {
                    for name in *names {
                        message.extend(inner(call.body, name)?.bytes());
                    }
                }
            }
        }
        Ok(message)
    }
}

/// Appends the fields of a form, sorted by name. Another body is named by its hash in the query, as Twilio does: where there is one, the
/// body has it, also if it is empty or says that it is a form, because neither is signed.
fn fields(call: &Call<'_>, message: &mut Vec<u8>) -> Result<(), Refused> {
    let query = call.url.split_once('?').map_or("", |(_, query)| query);
    if let Some(hash) = query.split('&').find_map(|pair| pair.strip_prefix("bodySHA256=")) {
        let made = digest::digest(&digest::SHA256, call.body);
        let same = unhex(hash.as_bytes()).is_some_and(|it| verify_slices_are_equal(&it, made.as_ref()).is_ok());
        return same.then_some(()).ok_or(Refused::Signature);
    }
    if !is_form(call.headers)? {
        return if call.body.is_empty() { Ok(()) } else { Err(Refused::Form) };
    }
    let mut pairs = form::pairs(call.body).ok_or(Refused::Form)?;
    pairs.sort();
    pairs.dedup(); // as the service's own libraries do
    for (name, value) in pairs {
        message.extend(name.bytes());
        message.extend(value.bytes());
    }
    Ok(())
}

fn is_form(headers: &HeaderMap) -> Result<bool, Refused> {
    let kind = headers.get(header::CONTENT_TYPE).map_or(Ok(""), |it| it.to_str()).map_err(|_| Refused::Form)?;
    let kind = kind.split(';').next().unwrap_or_default().trim();
    Ok(kind.eq_ignore_ascii_case("application/x-www-form-urlencoded"))
}

/// Returns the URL with its query sorted, and after it the fields of a form, sorted, as Plivo signs them. Another body is not signed, and is
/// none.
fn sorted(call: &Call<'_>) -> Result<String, Refused> {
    let (whole, query) = call.url.split_once('?').unwrap_or((call.url, ""));
    let pairs = |form: &[u8]| {
        let mut pairs = form::pairs(form).ok_or(Refused::Form)?;
        pairs.sort();
        Ok::<_, Refused>(pairs)
    };
    let fields = if is_form(call.headers)? { pairs(call.body)? } else { Vec::new() };
    if fields.is_empty() && !call.body.is_empty() {
        return Err(Refused::Form);
    }
    let query = pairs(query.as_bytes())?;
    let mut whole = String::from(whole);
    for (at, (name, value)) in query.iter().enumerate() {
        let between = if at == 0 { '?' } else { '&' };
        _ = write!(whole, "{between}{name}={value}");
    }
    match (query.is_empty(), fields.is_empty()) {
        (_, true) => {}
        (true, false) => whole.push('?'),
        (false, false) => whole.push('.'),
    }
    for (name, value) in fields {
        whole.push_str(&name);
        whole.push_str(&value);
    }
    Ok(whole)
}

/// Appends the request as Contentful signs it: a line each of the verb, the target, the headers that it names, and the body. A caller
/// chooses none of these headers, for their list is one of them.
fn canonical(call: &Call<'_>, message: &mut Vec<u8>) -> Result<(), Refused> {
    const LIST: &str = "x-contentful-signed-headers";
    let mut names: Vec<_> = one(call.headers, LIST)?.split(',').map(str::trim).collect();
    names.sort_unstable();
    if names.len() > MOST_HEADERS || ![LIST, "x-contentful-timestamp"].iter().all(|name| names.contains(name)) {
        return Err(Refused::Form);
    }
    let headers = names.iter().map(|name| Ok(format!("{name}:{}", one(call.headers, name)?.trim())));
    let headers = headers.collect::<Result<Vec<_>, Refused>>()?.join(";");
    let after = call.url.split_once("://").map_or(call.url, |(_, after)| after);
    let target = after.find('/').and_then(|at| after.get(at..)).unwrap_or("/");
    let target = match target.split_once('?') {
        // Their library escapes the query whole, and then what it has made of it.
        Some((path, query)) if !query.is_empty() => format!("{path}?{}", escaped(query, "-_.!~*'()")),
        Some((path, _)) => path.to_owned(),
        None => target.to_owned(),
    };
    let target = escaped(&target, "-_.!~*'();/?:@&=+$,#");
    message.extend(format!("{}\n{target}\n{headers}\n", call.method).bytes());
    message.extend(call.body);
    Ok(())
}

/// Escapes all but letters, digits and these.
fn escaped(text: &str, kept: &str) -> String {
    let mut whole = String::with_capacity(text.len());
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || kept.bytes().any(|kept| kept == octet) {
            whole.push(char::from(octet));
        } else {
            _ = write!(whole, "%{octet:02X}");
        }
    }
    whole
}

/// Returns the JSON that Hygraph signs, which has the body as a string.
fn envelope(place: Place, call: &Call<'_>, time: &str) -> Result<String, Refused> {
    let Place::Listed { header, .. } = place else { return Err(Refused::Form) };
    let environment = listed(one(call.headers, header)?, place, "env").next().ok_or(Refused::Form)?;
    let body = core::str::from_utf8(call.body).map_err(|_| Refused::Form)?;
    let string = |text: &str| serde_json::to_string(text).map_err(|_| Refused::Form);
    let (body, environment) = (string(body)?, string(environment)?);
    Ok(format!(r#"{{"Body":{body},"EnvironmentName":{environment},"TimeStamp":{time}}}"#))
}

/// Reads the escapes that HubSpot reads before it signs.
fn read_url(url: &str) -> String {
    const READ: [(&str, &str); 12] = [
        ("%3A", ":"),
        ("%2F", "/"),
        ("%3F", "?"),
        ("%40", "@"),
        ("%21", "!"),
        ("%24", "$"),
        ("%27", "'"),
        ("%28", "("),
        ("%29", ")"),
        ("%2A", "*"),
        ("%2C", ","),
        ("%3B", ";"),
    ];
    READ.iter().fold(url.to_owned(), |url, (escape, plain)| {
        url.replace(escape, plain).replace(&escape.to_ascii_lowercase(), plain)
    })
}
