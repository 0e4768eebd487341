//! How services sign: a row each, after their documentation.

use super::{Clock, Hash, Key, Method, Part, Place, Scheme, TOLERANCE, Time, Written};
use Hash::{Sha1, Sha256, Sha512};
use Part::{Body, Canonical, Envelope, Fields, Header, Inner, ReadUrl, Sorted, Text, Url, Verb};
use Written::{Base64, Hex};

const fn scheme(name: &'static str, signed: &'static [Part], method: Method, place: Place, time: Time) -> Scheme {
    Scheme { name, status: 403, signed, method, place, time }
}

/// The HMAC of the body with the secret as it is written, in a header.
const fn body(name: &'static str, hash: Hash, written: Written, header: &'static str, prefix: &'static str) -> Scheme {
    scheme(name, &[Body], Method::Hmac(hash, Key::Plain, written), Place::Header(header, prefix), Time::None)
}

const HEX: Method = Method::Hmac(Sha256, Key::Plain, Hex);
const BASE64: Method = Method::Hmac(Sha256, Key::Plain, Base64);
const WHSEC: Method = Method::Hmac(Sha256, Key::Whsec, Base64);

/// A header of `time=…,signature=…`, which signs `time.body`.
const fn listed(name: &'static str, header: &'static str, time: &'static str, key: &'static str) -> Scheme {
    let place = Place::Listed { header, key, between: ',', equals: '=' };
    scheme(name, &[Part::Time, Text("."), Body], HEX, place, Time::Listed(time, Clock::Seconds))
}

/// A header of `version=signature`, perhaps several, which sign the body.
const fn versions(name: &'static str, header: &'static str) -> Scheme {
    scheme(name, &[Body], HEX, Place::Listed { header, key: "v1", between: ',', equals: '=' }, Time::None)
}

/// The scheme of Slack: the version, the time and the body with colons between.
const fn colons(
    name: &'static str,
    signed: &'static [Part],
    header: &'static str,
    prefix: &'static str,
    time: &'static str,
) -> Scheme {
    scheme(name, signed, HEX, Place::Header(header, prefix), Time::Header(time, Clock::Seconds, TOLERANCE))
}

const SVIX: &[Part] = &[Header("svix-id"), Text("."), Part::Time, Text("."), Body];
const STANDARD: &[Part] = &[Header("webhook-id"), Text("."), Part::Time, Text("."), Body];

const fn spaced(
    name: &'static str,
    signed: &'static [Part],
    method: Method,
    header: &'static str,
    time: &'static str,
) -> Scheme {
    let place = Place::Listed { header, key: "v1", between: ' ', equals: ',' };
    scheme(name, signed, method, place, Time::Header(time, Clock::Seconds, TOLERANCE))
}

/// A user and a password, as Workspace ONE has them; its documentation and its guide name it in two ways.
const fn login(name: &'static str) -> Scheme {
    scheme(name, &[], Method::Login, Place::Header("authorization", "Basic "), Time::None)
}

const META: &str = "x-hub-signature-256";
const ZENDESK: &str = "x-zendesk-webhook-signature-timestamp";

/// The services, by name.
pub const SCHEMES: &[Scheme] = &[
    body("aftership", Sha256, Base64, "aftership-hmac-sha256", ""),
    scheme(
        "airship",
        &[Part::Time, Text(":"), Body],
        HEX,
        Place::Header("x-ua-signature", ""),
        Time::Header("x-ua-timestamp", Clock::Seconds, TOLERANCE),
    ),
    body("alchemy", Sha256, Hex, "x-alchemy-signature", ""),
    body("autodesk", Sha1, Hex, "x-adsk-signature", "sha1hash="),
    body("bitbucket", Sha256, Hex, "x-hub-signature", "sha256="),
    body("bolt", Sha256, Base64, "x-bolt-hmac-sha256", ""),
    scheme(
        "box",
        &[Body, Part::Time],
        BASE64,
        Place::Header("box-signature-primary", ""),
        Time::Header("box-delivery-timestamp", Clock::Rfc3339, 600),
    ),
    spaced("brex", STANDARD, WHSEC, "webhook-signature", "webhook-timestamp"),
    listed("buildkite", "x-buildkite-signature", "timestamp", "signature"),
    listed("calendly", "calendly-webhook-signature", "t", "v1"),
    body("castle", Sha256, Base64, "x-castle-signature", ""),
    body("chargify", Sha256, Hex, "x-chargify-webhook-signature-hmac-sha-256", ""),
    versions("circleci", "circleci-signature"),
    body("clearbit", Sha1, Hex, "x-request-signature", "sha1="),
    spaced("clerk", SVIX, WHSEC, "svix-signature", "svix-timestamp"),
    body("coinbase", Sha256, Hex, "x-cc-webhook-signature", ""),
    scheme(
        "contentful",
        &[Canonical],
        HEX,
        Place::Header("x-contentful-signature", ""),
        Time::Header("x-contentful-timestamp", Clock::Milliseconds, TOLERANCE),
    ),
    scheme(
        "discord",
        &[Part::Time, Body],
        Method::Ed25519,
        Place::Header("x-signature-ed25519", ""),
        Time::Header("x-signature-timestamp", Clock::Seconds, TOLERANCE),
    ),
    // With each of the keys that are in use.
    scheme("docusign", &[Body], BASE64, Place::Numbered("x-docusign-signature-"), Time::None),
    body("dropbox", Sha256, Hex, "x-dropbox-signature", ""),
    body("facebook_graph_api", Sha256, Hex, META, "sha256="),
    body("facebook_messenger", Sha256, Hex, META, "sha256="),
    colons(
        "frameio",
        &[Text("v0:"), Part::Time, Text(":"), Body],
        "x-frameio-signature",
        "v0=",
        "x-frameio-request-timestamp",
    ),
    body("github", Sha256, Hex, META, "sha256="),
    scheme("gitlab", &[], Method::Token, Place::Header("x-gitlab-token", ""), Time::None),
    listed("go1", "go1-signature", "t", "v1"),
    scheme(
        "graphcms",
        &[Envelope],
        BASE64,
        Place::Listed { header: "gcms-signature", key: "sign", between: ',', equals: '=' },
        Time::Listed("t", Clock::Milliseconds),
    ),
    body("heroku", Sha256, Base64, "heroku-webhook-hmac-sha256", ""),
    scheme(
        "hubspot",
        &[Verb, ReadUrl, Body, Part::Time],
        BASE64,
        Place::Header("x-hubspot-signature-v3", ""),
        Time::Header("x-hubspot-request-timestamp", Clock::Milliseconds, TOLERANCE),
    ),
    body("instagram", Sha256, Hex, META, "sha256="),
    body("intercom", Sha1, Hex, "x-hub-signature", "sha1="),
    body("jira", Sha256, Hex, "x-hub-signature", "sha256="),
    body("launch_darkly", Sha256, Hex, "x-ld-signature", ""),
    body("linear", Sha256, Hex, "linear-signature", ""),
    scheme(
        "mailchimp",
        &[Url, Fields],
        Method::Hmac(Sha1, Key::Plain, Base64),
        Place::Header("x-mandrill-signature", ""),
        Time::None,
    ),
    scheme("mailgun", &[Inner(&["timestamp", "token"])], HEX, Place::Inner, Time::Inner),
    scheme(
        "microsoft_teams",
        &[Body],
        Method::Hmac(Sha256, Key::Base64, Base64),
        Place::Header("authorization", "HMAC "),
        Time::None,
    ),
    body("modern_treasury", Sha256, Hex, "x-signature", ""),
    body("mongodb", Sha1, Base64, "x-mms-signature", ""),
    listed("mux", "mux-signature", "t", "v1"),
    scheme(
        "orb",
        &[Text("v1:"), Part::Time, Text(":"), Body],
        HEX,
        Place::Listed { header: "x-orb-signature", key: "v1", between: ' ', equals: '=' },
        Time::Header("x-orb-timestamp", Clock::Utc, TOLERANCE),
    ),
    versions("pagerduty", "x-pagerduty-signature"),
    colons("pinwheel", &[Text("v2:"), Part::Time, Text(":"), Body], "x-pinwheel-signature", "v2=", "x-timestamp"),
    scheme(
        "plivo",
        &[Sorted, Text("."), Header("x-plivo-signature-v3-nonce")],
        BASE64,
        Place::Several("x-plivo-signature-v3"),
        Time::None,
    ),
    body("pusher", Sha256, Hex, "x-pusher-signature", ""),
    scheme(
        "sendgrid",
        &[Part::Time, Body],
        Method::Ecdsa,
        Place::Header("x-twilio-email-event-webhook-signature", ""),
        Time::Header("x-twilio-email-event-webhook-timestamp", Clock::Seconds, TOLERANCE),
    ),
    body("sentry", Sha256, Hex, "sentry-hook-signature", ""),
    body("shopify", Sha256, Base64, "x-shopify-hmac-sha256", ""),
    body("signal_sciences", Sha256, Hex, "x-sigsci-signature", ""),
    colons(
        "slack",
        &[Text("v0:"), Part::Time, Text(":"), Body],
        "x-slack-signature",
        "v0=",
        "x-slack-request-timestamp",
    ),
    body("sonatype", Sha1, Hex, "x-nexus-webhook-signature", ""),
    scheme("square", &[Url, Body], BASE64, Place::Header("x-square-hmacsha256-signature", ""), Time::None),
    spaced("standard_webhooks", STANDARD, WHSEC, "webhook-signature", "webhook-timestamp"),
    listed("stripe", "stripe-signature", "t", "v1"),
    spaced("svix", SVIX, WHSEC, "svix-signature", "svix-timestamp"),
    scheme("telegram", &[], Method::Token, Place::Header("x-telegram-bot-api-secret-token", ""), Time::None),
    body("terraform", Sha512, Hex, "x-tfe-notification-signature", ""),
    listed("tiktok", "tiktok-signature", "t", "s"),
    body("trendmicro_conformity", Sha256, Hex, "x-trendmicro-signature", ""),
    scheme(
        "twilio",
        &[Url, Fields],
        Method::Hmac(Sha1, Key::Plain, Base64),
        Place::Header("x-twilio-signature", ""),
        Time::None,
    ),
    body("twitter", Sha256, Base64, "x-twitter-webhooks-signature", "sha256="),
    body("typeform", Sha256, Base64, "typeform-signature", "sha256="),
    login("vmware"),
    login("vmware_workspace"),
    body("webex", Sha1, Hex, "x-spark-signature", ""),
    body("whatsapp", Sha256, Hex, META, "sha256="),
    body("worldline", Sha256, Base64, "x-gcs-signature", ""),
    // Xero finds out by the 401 that a wrong signature is noticed.
    Scheme { status: 401, ..body("xero", Sha256, Base64, "x-xero-signature", "") },
    scheme(
        "zendesk",
        &[Part::Time, Body],
        BASE64,
        Place::Header("x-zendesk-webhook-signature", ""),
        Time::Header(ZENDESK, Clock::Rfc3339, TOLERANCE),
    ),
    colons("zoom", &[Text("v0:"), Part::Time, Text(":"), Body], "x-zm-signature", "v0=", "x-zm-request-timestamp"),
];

/// Services that the form of ngrok has and that are not here: two of them are gone, and with them what they signed; the third names a
/// certificate that would have to be fetched.
pub const OTHERS: &[&str] = &["hostedhooks", "orbit", "sns"];
