#!/usr/bin/env python3
"""Makes webhooks.json: a signed call of each service, by Python's hmac and each service's documentation.

Where a documentation or a library of the service has an example, that one is taken as it is; where a library of the service signs, that one
has signed; `by` says so. Run it with `cryptography` installed.
"""

import base64
import hashlib
import hmac
import json
import pathlib

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

NOW = 1_700_000_000
ISO = "2023-11-14T22:13:20Z"
BODY = '{"event":"é","id":42}'
SECRET = "the secret of the service"
URL = "https://a.example/hooks?x=1&y=%20z"
FORM = {"content-type": "application/x-www-form-urlencoded"}


def mac(message, secret=SECRET, how=hashlib.sha256):
    key = secret.encode() if isinstance(secret, str) else secret
    return hmac.new(key, message.encode(), how)


def hexed(*arguments, **named):
    return mac(*arguments, **named).hexdigest()


def b64(*arguments, **named):
    return base64.b64encode(mac(*arguments, **named).digest()).decode()


def call(provider, headers, *, secret=SECRET, body=BODY, url=URL, method="POST", time=NOW, by="hmac"):
    return {
        "provider": provider, "secret": secret, "method": method, "url": url, "headers": headers, "body": body,
        "time": time, "by": by,
    }


def whsec(provider, prefix, secret="whsec_dGhlIHNlY3JldCBvZiB0aGUgc2VydmljZQ=="):
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = b64(f"msg_1.{NOW}.{BODY}", secret=key)
    headers = {f"{prefix}-id": "msg_1", f"{prefix}-timestamp": str(NOW), f"{prefix}-signature": f"v1,AAAA v1,{signature}"}
    return call(provider, headers, secret=secret)


def hub(provider):
    return call(provider, {"X-Hub-Signature-256": f"sha256={hexed(BODY)}"})


def colon(provider, version, signature, time):
    return call(provider, {signature: f"{version}={hexed(f'{version}:{NOW}:{BODY}')}", time: str(NOW)})


def sha1(message):
    return hexed(message, how=hashlib.sha1)


def discord():
    key = ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"discord").digest())
    public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    signature = key.sign(f"{NOW}{BODY}".encode()).hex()
    return call("discord", {"X-Signature-Ed25519": signature, "X-Signature-Timestamp": str(NOW)}, secret=public.hex())


def mailgun():
    signature = {"timestamp": str(NOW), "token": "0123abcd", "signature": hexed(f"{NOW}0123abcd")}
    return call("mailgun", {}, body=json.dumps({"signature": signature, "event-data": {"event": "opened"}}))


def mandrill():
    return call("mailchimp", {"X-Mandrill-Signature": b64(f"{URL}mandrill_events[]", how=hashlib.sha1), **FORM},
                body="mandrill_events=%5B%5D")


def hubspot():
    url, time = "https://a.example/hooks?next=https%3A%2F%2Fb.example", str(NOW * 1000)
    message = f"POSThttps://a.example/hooks?next=https://b.example{BODY}{time}"
    return call("hubspot", {"X-HubSpot-Signature-v3": b64(message), "X-HubSpot-Request-Timestamp": time}, url=url)


def twilio_json():
    url = f"{URL}&bodySHA256={hashlib.sha256(BODY.encode()).hexdigest()}"
    headers = {"X-Twilio-Signature": b64(url, how=hashlib.sha1), "Content-Type": "application/json"}
    return call("twilio", headers, url=url)


SLACK = ("token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
         "&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
         "&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
         "&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c")
SENDGRID = ('[{"email":"hello@world.com","event":"dropped","reason":"Bounced Address",'
            '"sg_event_id":"ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA",'
            '"sg_message_id":"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0",'
            '"smtp-id":"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>","timestamp":1600112492}]\r\n')

DOCUMENTED = [
    call("github", {"X-Hub-Signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
         secret="It's a Secret to Everybody", body="Hello, World!", by="documentation"),
    call("slack", {"X-Slack-Signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
                   "X-Slack-Request-Timestamp": "1531420618"},
         secret="8f742231b10e8888abcd99yyyzzz85a5", body=SLACK, time=1531420618, by="documentation"),
    call("svix", {"svix-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "svix-timestamp": "1614265330",
                  "svix-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
         secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", body='{"test": 2432232314}', time=1614265330, by="documentation"),
    call("twilio", {"X-Twilio-Signature": "RSOYDt4T1cUTdK1PDd93/VVr8B8=", **FORM}, secret="12345",
         url="https://mycompany.com/myapp.php?foo=1&bar=2", by="documentation",
         body="To=%2B18005551212&CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309"),
    call("sendgrid", {"X-Twilio-Email-Event-Webhook-Signature": "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM=",
                      "X-Twilio-Email-Event-Webhook-Timestamp": "1600112502"},
         secret="MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==",
         body=SENDGRID, time=1600112502, by="library of the service"),
    call("bitbucket", {"X-Hub-Signature": "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9"},
         secret="It's a Secret to Everybody", body="Hello World!", by="documentation"),
    call("box", {"BOX-SIGNATURE-PRIMARY": "6TfeAW3A1PASkgboxxA5yqHNKOwFyMWuEXny/FPD5hI=",
                 "BOX-DELIVERY-TIMESTAMP": "2020-01-01T00:00:00-07:00"},
         secret="SamplePrimaryKey", time=1577862000 + 600, by="library of the service",
         body='{"type":"webhook_event","webhook":{"id":"1234567890"},"trigger":"FILE.UPLOADED",'
              '"source":{"id":"1234567890","type":"file","name":"Test.txt"}}'),
    call("square", {"x-square-hmacsha256-signature": "2kRE5qRU2tR+tBGlDwMEw2avJ7QM4ikPYD/PJ3bd9Og="}, secret="asdf1234",
         url="https://example.com/webhook", body='{"hello":"world"}', by="documentation"),
    call("standard_webhooks", {"webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": "1614265330",
                               "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
         secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", body='{"test": 2432232314}', time=1614265330,
         by="library of the service"),
    call("orb", {"X-Orb-Timestamp": "2024-03-27T15:42:29.551",
                 "X-Orb-Signature": "v1=34c51e7436aca75f9c6799d3e1e5a0066265d8e5512df552aaa7e8464f2b8454"},
         secret="c-UGKYdnhHh436B_sMouYAPUvXyWpzOdunZBV5dFSD8", time=1711554149, by="library of the service",
         body='{"id": "o4mmewpfNNTnjfZc", "created_at": "2024-03-27T15:42:29+00:00", "type": "resource_event.test", '
              '"payload_style": "expanded", "properties": {"message": "A test webhook from Orb. Happy testing!"}}'),
    call("contentful", {
        "x-contentful-signature": "b0e8588fc4ac38c6bf4df638b6fcba5a18b467acd8fdeac9484affa69f6441bd",
        "x-contentful-signed-headers": "content-type,x-contentful-environment-id,x-contentful-signed-headers,"
        "x-contentful-space-id,x-contentful-timestamp,x-contentful-topic,x-contentful-user-id",
        "x-contentful-timestamp": "1700000000000", "x-contentful-space-id": "space1",
        "x-contentful-environment-id": "master", "x-contentful-user-id": "user1",
        "x-contentful-topic": "ContentManagement.Entry.publish", "content-type": "application/json"},
         secret="0123456789abcdef" * 4, url="https://a.example/hooks?x=1&y=z", by="library of the service"),
    call("graphcms", {"gcms-signature":
                      "sign=wZryGPtt1cFCnJ8NYgo6U4tglGZNMrJ+99yXayBJm5I=, env=production, t=1700000000000"},
         secret="rCNwyiloY3oJYYkxgpBXaleIiUv5MYlx", by="library of the service"),
    *[call("plivo", {"X-Plivo-Signature-V3": signature, "X-Plivo-Signature-V3-Nonce": "12345", **kind}, secret="the token",
           method=method, url=f"https://a.example/hooks{query}", body=body, by="library of the service")
      for method, query, body, signature, kind in [
          ("POST", "?x=1&b=2", "To=14151234567&From=14157654321&Text=%C3%A9+b",
           "AAAA,WikMjBkHP/xBcprMz8JLiF0n6ZpA/7T8b61J5aRHqvg=", FORM),
          ("POST", "", "To=14151234567", "CLQrlIxPabzc4QUlfcxX9qrTkG/2tyAIr+THVtUimcI=", FORM),
          ("GET", "?x=1&b=2", "", "MsGsyOYteos+c+7YtEBLAM3VLnGTycFMaWVt/1tH3AI=", {}),
          ("GET", "", "", "Ou3zVJL6V7hUBKVtCZPldIV+OTqqV5tHtPz4xIsKQGg=", {})]],
]

MADE = [
    call("aftership", {"aftership-hmac-sha256": b64(BODY)}),
    call("airship", {"X-UA-SIGNATURE": hexed(f"{NOW}:{BODY}"), "X-UA-TIMESTAMP": str(NOW)}),
    call("alchemy", {"X-Alchemy-Signature": hexed(BODY)}),
    call("autodesk", {"x-adsk-signature": f"sha1hash={sha1(BODY)}"}),
    call("bolt", {"X-Bolt-Hmac-Sha256": b64(BODY)}),
    whsec("brex", "Webhook", "dGhlIHNlY3JldCBvZiB0aGUgc2VydmljZQ=="),
    call("buildkite", {"X-Buildkite-Signature": f"timestamp={NOW},signature={hexed(f'{NOW}.{BODY}')}"}),
    call("calendly", {"Calendly-Webhook-Signature": f"t={NOW},v1={hexed(f'{NOW}.{BODY}')}"}),
    call("castle", {"X-Castle-Signature": b64(BODY)}),
    call("chargify", {"X-Chargify-Webhook-Signature-Hmac-Sha-256": hexed(BODY)}),
    call("circleci", {"circleci-signature": f"v1={hexed(BODY)},v2=00"}),
    call("clearbit", {"X-Request-Signature": f"sha1={sha1(BODY)}"}),
    whsec("clerk", "svix"),
    call("coinbase", {"X-CC-Webhook-Signature": hexed(BODY)}),
    discord(),
    call("docusign", {"X-DocuSign-Signature-1": b64(BODY)}),
    call("dropbox", {"X-Dropbox-Signature": hexed(BODY)}),
    hub("facebook_graph_api"),
    hub("facebook_messenger"),
    colon("frameio", "v0", "X-Frameio-Signature", "X-Frameio-Request-Timestamp"),
    call("gitlab", {"X-Gitlab-Token": SECRET}),
    call("go1", {"go1-signature": f"t={NOW},v1={hexed(f'{NOW}.{BODY}')}"}),
    call("heroku", {"Heroku-Webhook-Hmac-SHA256": b64(BODY)}),
    hubspot(),
    hub("instagram"),
    call("intercom", {"X-Hub-Signature": f"sha1={sha1(BODY)}"}),
    call("jira", {"X-Hub-Signature": f"sha256={hexed(BODY)}"}),
    call("launch_darkly", {"X-LD-Signature": hexed(BODY)}),
    call("linear", {"Linear-Signature": hexed(BODY)}),
    mandrill(),
    mailgun(),
    call("microsoft_teams", {"Authorization": "HMAC " + b64(BODY, secret=b"a key of teams")},
         secret=base64.b64encode(b"a key of teams").decode()),
    call("modern_treasury", {"X-Signature": hexed(BODY)}),
    call("mongodb", {"X-MMS-Signature": b64(BODY, how=hashlib.sha1)}),
    call("mux", {"Mux-Signature": f"t={NOW},v1={hexed(f'{NOW}.{BODY}')}"}),
    call("pagerduty", {"X-PagerDuty-Signature": f"v1={'0' * 64},v1={hexed(BODY)}"}),
    colon("pinwheel", "v2", "x-pinwheel-signature", "x-timestamp"),
    call("pusher", {"X-Pusher-Signature": hexed(BODY), "X-Pusher-Key": "k"}),
    call("sentry", {"Sentry-Hook-Signature": hexed(BODY)}),
    call("shopify", {"X-Shopify-Hmac-Sha256": b64(BODY)}),
    call("signal_sciences", {"X-SigSci-Signature": hexed(BODY)}),
    call("sonatype", {"X-Nexus-Webhook-Signature": sha1(BODY)}),
    call("stripe", {"Stripe-Signature": f"t={NOW},v1={'0' * 64},v1={hexed(f'{NOW}.{BODY}')},v0=00"}),
    call("telegram", {"X-Telegram-Bot-Api-Secret-Token": "a-token_1"}, secret="a-token_1"),
    call("terraform", {"X-TFE-Notification-Signature": hexed(BODY, how=hashlib.sha512)}),
    call("tiktok", {"TikTok-Signature": f"t={NOW},s={hexed(f'{NOW}.{BODY}')}"}),
    call("trendmicro_conformity", {"X-TrendMicro-Signature": hexed(BODY)}),
    twilio_json(),
    call("twitter", {"x-twitter-webhooks-signature": f"sha256={b64(BODY)}"}),
    call("typeform", {"Typeform-Signature": f"sha256={b64(BODY)}"}),
    *[call(name, {"Authorization": "Basic YW5uOnRoZSBwYXNzd29yZA=="}, secret="ann::the password")
      for name in ("vmware", "vmware_workspace")],
    call("webex", {"X-Spark-Signature": sha1(BODY)}),
    hub("whatsapp"),
    call("worldline", {"X-GCS-Signature": b64(BODY), "X-GCS-KeyId": "k"}),
    call("xero", {"x-xero-signature": b64(BODY)}),
    call("zendesk", {"X-Zendesk-Webhook-Signature": b64(ISO + BODY), "X-Zendesk-Webhook-Signature-Timestamp": ISO}),
    colon("zoom", "v0", "x-zm-signature", "x-zm-request-timestamp"),
]

path = pathlib.Path(__file__).with_name("webhooks.json")
lines = ",\n".join(json.dumps(vector, ensure_ascii=False) for vector in DOCUMENTED + MADE)
path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
