//! A network of a few lines that asks agents for something: `sample_vendor CA.pem`.
//!
//! Writes its certificate into the file, prints `READY localhost:PORT`, takes any agent with any token and binds whatever it wishes for.
//! Each line of standard input, such as `update please`, is sent as a command to the agent whose session began last; `configuration FILE why`
//! sends what is in the file. What agents say is a line each: `session adit/1.0.0`, `bound https://app.example`, `answer FORBIDDEN why`, `closed`.

use core::error::Error;
use std::{
    io::Write as _,
    sync::{Arc, Mutex, PoisonError},
};

use adit_core::{Code, Command, Config, SessionId};
use adit_tokio::{Event, NetworkSession, accept, server_config};
use rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, stdin},
    net::{TcpListener, TcpStream},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args().nth(1).ok_or("sample_vendor CA.pem")?;
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    std::fs::write(file, issued.cert.pem())?;
    let key = PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let tls = Arc::new(server_config(vec![issued.cert.der().clone()], key.into(), provider)?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    tell(&format!("READY localhost:{}", listener.local_addr()?.port()));
    let newest = Arc::<Mutex<Option<NetworkSession>>>::default();
    let mut lines = BufReader::new(stdin()).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => {
                let Some(line) = line? else { return Ok(()) };
                let session = newest.lock().unwrap_or_else(PoisonError::into_inner).clone();
                ask(session.as_ref(), &line);
            }
            accepted = listener.accept() => {
                let (io, _) = accepted?;
                tokio::spawn(serve(io, Arc::clone(&tls), Arc::clone(&newest)));
            }
        }
    }
}

fn ask(session: Option<&NetworkSession>, line: &str) {
    let (word, text) = line.split_once(' ').unwrap_or((line, ""));
    let Some(session) = session else { return tell("not asked: nobody is there") };
    let command = match word {
        "configuration" => {
            let (file, text) = text.split_once(' ').unwrap_or((text, ""));
            let asked = std::fs::read_to_string(file).map(|document| session.configure(&document, text));
            return match asked {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tell(&format!("not asked: {error:?}")),
                Err(error) => tell(&format!("not asked: {error}")),
            };
        }
        "stop" => Command::Stop,
        "restart" => Command::Restart,
        "update" => Command::Update,
        _ => return tell("unknown: stop, restart, update or configuration"),
    };
    if let Err(error) = session.command(command, text) {
        tell(&format!("not asked: {error:?}"));
    }
}

async fn serve(io: TcpStream, tls: Arc<ServerConfig>, newest: Arc<Mutex<Option<NetworkSession>>>) {
    let Ok(incoming) = accept(io, tls, Config::network(), 7).await else { return };
    tell(&format!("session {}", adit_core::escape(&incoming.hello().software)));
    let welcome = incoming.welcome(SessionId(incoming.hello().agent.0), "sample", "node-1");
    let (session, mut events) = incoming.accept(welcome);
    *newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(session.clone());
    while let Some(event) = events.next().await {
        match event {
            Event::Bind(request) => {
                let url = request.bind().url.clone();
                session.bound(request, &url);
                tell(&format!("bound {}", adit_core::escape(&url)));
            }
            Event::CommandResult(result) => {
                tell(&format!("answer {} {}", result.code, adit_core::escape(&result.text)));
            }
            Event::Opened(stream) => stream.abort(Code::REFUSED),
            Event::Suspended(_) => session.close(Code::NO_ERROR, ""), // nobody waits for it here
            Event::Closed(_) => tell("closed"),
            Event::Unbind(_)
            | Event::Withheld(_)
            | Event::Bound(_)
            | Event::Rejected(_)
            | Event::Unbound(_)
            | Event::Command(_)
            | Event::Revocations(_)
            | Event::Resumed(_)
            | Event::GoAway(_) => {}
        }
    }
}

/// Prints a line at once, whatever stands behind standard output.
fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush()); // whoever reads may have gone
}
