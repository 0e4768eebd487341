//! The one form of a path: what rules see is what the upstream gets (V58).
//!
//! | in the request | what becomes of it |
//! |---|---|
//! | escapes of unreserved characters, `%41`, `%2e` | decoded |
//! | other escapes | kept, with upper-case digits |
//! | `.` and `..`, escaped or not | resolved (RFC 3986 §5.2.4) |
//! | `//` | one slash |
//! | `..` above the root | refused |
//! | `%2f`, `%5c`, `\`, `;` | refused: some upstreams take them for the end of a segment, or of its name |
//! | `%00` to `%1f`, `%7f` | refused |
//! | `%25` before two hexadecimal digits | refused: decoded twice it is another path |
//! | a `%` that begins no escape, escapes that are no UTF-8, octets beyond ASCII | refused |
//! | upper and lower case | kept: two paths; a rule for both compares `req.url.path.lowerAscii()` |

use std::borrow::Cow;

/// A path that is read in more than one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ambiguous;

/// Returns a path in its one form; `*`, which is none, as it is.
///
/// # Errors
/// [`Ambiguous`].
pub fn normal(path: &str) -> Result<Cow<'_, str>, Ambiguous> {
    if path == "*" || is_normal(path) {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = decode(path)?;
    let mut segments: Vec<&str> = Vec::new();
    let mut rest = decoded.strip_prefix('/').ok_or(Ambiguous)?;
    let mut is_folder = true;
    while !rest.is_empty() {
        let (segment, after) = rest.split_once('/').map_or((rest, None), |(segment, after)| (segment, Some(after)));
        rest = after.unwrap_or_default();
        match segment {
            "" | "." => is_folder = true,
            ".." => {
                segments.pop().ok_or(Ambiguous)?;
                is_folder = true;
            }
            _ => {
                segments.push(segment);
                is_folder = after.is_some();
            }
        }
    }
    let end = if is_folder && !segments.is_empty() { "/" } else { "" };
    Ok(Cow::Owned(format!("/{}{end}", segments.join("/"))))
}

/// Most paths have nothing to change or refuse.
fn is_normal(path: &str) -> bool {
    let plain = |octet: u8| matches!(octet, b'!'..=b'~') && !matches!(octet, b'%' | b'\\' | b';');
    path.starts_with('/') && path.bytes().all(plain) && !path.contains("//") && !path.contains("/.")
}

fn decode(path: &str) -> Result<String, Ambiguous> {
    let octets = path.as_bytes();
    let (mut out, mut real, mut at) = (String::with_capacity(path.len()), Vec::with_capacity(path.len()), 0);
    while let Some(octet) = octets.get(at) {
        match octet {
            b'%' => {
                let value = escape(octets, at).ok_or(Ambiguous)?;
                if value.is_ascii_control() || matches!(value, b'/' | b'\\') {
                    return Err(Ambiguous);
                }
                real.push(value);
                if value.is_ascii_alphanumeric() || matches!(value, b'-' | b'.' | b'_' | b'~') {
                    out.push(char::from(value));
                } else {
                    out.push_str(&format!("%{value:02X}"));
                }
                at += 3;
            }
            b'\\' | b';' => return Err(Ambiguous),
            b'!'..=b'~' => {
                real.push(*octet);
                out.push(char::from(*octet));
                at += 1;
            }
            _ => return Err(Ambiguous),
        }
    }
    // Overlong forms are no UTF-8: some upstreams read a slash or a dot in them.
    if core::str::from_utf8(&real).is_err() || real_escapes(&real) {
        return Err(Ambiguous);
    }
    Ok(out)
}

/// Tells whether what was decoded once could be decoded again.
fn real_escapes(real: &[u8]) -> bool {
    (0..real.len()).any(|at| real.get(at) == Some(&b'%') && escape(real, at).is_some())
}

/// Returns the octet that the escape at `at` stands for.
fn escape(octets: &[u8], at: usize) -> Option<u8> {
    let digit = |at: usize| char::from(*octets.get(at)?).to_digit(16);
    u8::try_from(digit(at + 1)? << 4 | digit(at + 2)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_has_one_form() {
        for (path, form) in [
            ("/", "/"),
            ("*", "*"),
            ("/admin", "/admin"),
            ("/%61dmin", "/admin"),
            ("/%61%64%6D%69%6e", "/admin"),
            ("//admin", "/admin"),
            ("///admin//x", "/admin/x"),
            ("/./admin", "/admin"),
            ("/%2e/admin", "/admin"),
            ("/x/../admin", "/admin"),
            ("/x/%2e%2E/admin", "/admin"),
            ("/x/.%2e/admin", "/admin"),
            ("/x//../admin", "/admin"),
            ("/admin/", "/admin/"),
            ("/admin/.", "/admin/"),
            ("/admin/x/..", "/admin/"),
            ("/admin//", "/admin/"),
            ("/x/..", "/"),
            ("/Admin", "/Admin"),
            ("/a.b/..c/...", "/a.b/..c/..."),
            ("/caf%c3%a9%20", "/caf%C3%A9%20"),
            ("/100%25", "/100%25"),
            ("/a%3bb", "/a%3Bb"),
            ("/~a/%7Ea/a+b:c@d,e=f", "/~a/~a/a+b:c@d,e=f"),
        ] {
            assert_eq!(normal(path).as_deref(), Ok(form), "{path}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_has_none() {
        for path in [
            "",
            "admin",
            "/..",
            "/../admin",
            "/x/../../admin",
            "/%2e%2e/admin",
            "/x%2fadmin",
            "/x%2Fadmin",
            "/x%5cadmin",
            "/x\\admin",
            "/admin;x",
            "/x/..;/admin",
            "/admin%00",
            "/admin%0a",
            "/admin%7f",
            "/%2561dmin",
            "/%252e%252e/admin",
            "/%25%32e/admin",
            "/%",
            "/%4",
            "/%zz",
            "/%u0061dmin",
            "/%c0%ae%c0%ae/admin",
            "/%c0%afadmin",
            "/%ff",
            "/caf\u{e9}",
            "/a b",
        ] {
            assert_eq!(normal(path), Err(Ambiguous), "{path}");
        }
    }

    proptest! {
        #[test]
        fn the_form_of_a_form_is_itself(path in "/([a-z./%;]|%2[0-9a-fA-F]|%6[0-9]){0,20}") {
            if let Ok(form) = normal(&path) {
                let again = normal(&form);
                prop_assert_eq!(again.as_deref(), Ok(&*form));
                let folders = form.split('/').filter(|segment| matches!(*segment, "." | ".."));
                prop_assert_eq!(folders.count(), 0);
                prop_assert!(!form.contains("//"));
            }
        }
    }
}
