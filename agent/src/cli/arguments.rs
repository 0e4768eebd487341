//! What can be said on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::service::arguments::ServiceCommand;

/// Carries connections from a network to services beside this agent, over one connection that it dials itself.
#[derive(Debug, Parser)]
#[command(name = "adit", version, about, after_help = AFTER_HELP, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command. They outrank the environment, which outranks the files.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// A configuration file; given several times, what the later says wins [default: ~/.config/adit/adit.yml].
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Vec<PathBuf>,
    /// The customer's own policy [default: /etc/adit/policy.yml, or policy.yml beside the configuration, if there is one].
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// Where the network listens for agents: host:port.
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub(crate) connect_url: Option<String>,
    /// Whom the network's certificate must be from: trusted, host, or a PEM file.
    #[arg(long, global = true, value_name = "TRUSTED|HOST|FILE")]
    pub(crate) connect_cas: Option<String>,
    /// A file that holds the authtoken; - reads it from standard input.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) authtoken_file: Option<String>,
    /// Where the log goes: stderr, stdout, off, or a file.
    #[arg(long, global = true, value_name = "STDERR|STDOUT|OFF|FILE")]
    pub(crate) log: Option<String>,
    /// What is logged: error, warn, info, debug, trace, or a filter such as info,adit=debug.
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// The form of the log: term, logfmt or json.
    #[arg(long, global = true, value_name = "FORMAT")]
    pub(crate) log_format: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Carry HTTP to an upstream: adit http 8080
    Http(One),
    /// Carry TCP to an upstream: adit tcp 22 --url tcp://:2222
    Tcp(One),
    /// Carry TLS, which the upstream ends, or this agent: adit tls 8443 --url tls://db.example.com
    Tls(One),
    /// Carry what the configuration says: some endpoints, or all.
    Start(Start),
    /// Ask for the certificate of an endpoint whose TLS ends here, install it, look at it.
    #[command(subcommand)]
    Certificate(CertificateCommand),
    /// Look at the configuration, or put the authtoken into it.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look at each step to the network, each upstream and the clock, and say what to do; shows no token.
    Diagnose(Diagnose),
    /// List what a firewall must let through: names, addresses, ports.
    Firewall(Firewall),
    /// Say in plain words what the vendor can reach, by which endpoints, who can read it, and what is refused.
    Explain(Explain),
    /// Let the system start the agent at boot and after a crash: install, look, start, stop, remove.
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Show how the running agent is: its session, each step of connecting, endpoints, connections.
    Status(Status),
    /// Show the last lines of the running agent's log.
    Logs(Logs),
    /// Look at the last requests over HTTP, where policy and configuration let them be kept.
    #[command(subcommand)]
    Requests(RequestsCommand),
    /// Look at the audit log: what this agent did, in records that hold together.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Call an endpoint as anybody would, and show whether TLS ends here: at this agent, or at the upstream.
    Prove(Prove),
    /// Close everything within a second, over restarts too, until `adit thaw`.
    Freeze(Freeze),
    /// End what `adit freeze` or SIGUSR1 began.
    Thaw(Running),
    /// Look for a newer version, and install it.
    Update(Update),
    /// Connect once, without an endpoint: what a new version is asked before it is taken.
    #[command(hide = true)]
    Probe(Probe),
    /// Print what completes this program's words in a shell, names of endpoints too.
    Completions(Completions),
    /// Print the manual page, or write it and those of all commands.
    Man(Man),
    /// Print every error that this program tells, with what to do.
    Errors(Printed),
    /// Print the version.
    Version(Printed),
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// The service: 8080, host:port, http://host:port, https://host, unix:/path.
    pub(crate) upstream: String,
    /// The endpoint to ask for: https://crm.example.com, tls://db.example.com, tcp://:5432.
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// Share the endpoint with other agents that say so too.
    #[arg(long)]
    pub(crate) pooling: bool,
    /// Tell the upstream who calls, in a PROXY protocol header.
    #[arg(long, value_name = "1|2", value_parser = ["1", "2"])]
    pub(crate) proxy_protocol: Option<String>,
    /// The HTTP that the upstream speaks.
    #[arg(long, value_name = "http1|http2", value_parser = ["http1", "http2"])]
    pub(crate) upstream_protocol: Option<String>,
    /// A PEM file of whom the upstream's certificate must be from.
    #[arg(long, value_name = "FILE")]
    pub(crate) upstream_ca: Option<PathBuf>,
    /// Take any certificate of the upstream: whoever is on the path can read and change everything.
    #[arg(long, conflicts_with = "upstream_ca")]
    pub(crate) upstream_insecure: bool,
    /// The certificate of the endpoint, PEM: TLS of callers ends at this agent, and the network reads nothing.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) crt: Option<PathBuf>,
    /// The key of the certificate, PEM.
    #[arg(long, value_name = "FILE", requires = "crt")]
    pub(crate) key: Option<PathBuf>,
    /// Certificates of authorities, PEM: only callers with a certificate from one of them are let in.
    #[arg(long, value_name = "FILE", requires = "crt")]
    pub(crate) mutual_tls_cas: Option<PathBuf>,
    /// Text for the vendor.
    #[arg(long)]
    pub(crate) metadata: Option<String>,
    /// Text for people.
    #[arg(long)]
    pub(crate) description: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Start {
    /// The names of endpoints in the configuration.
    #[arg(required_unless_present = "all")]
    pub(crate) names: Vec<String>,
    /// All endpoints of the configuration.
    #[arg(long, conflicts_with = "names")]
    pub(crate) all: bool,
    /// The name of the service that this process is, where its manager keeps no standard error.
    #[arg(skip)]
    pub(crate) service: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Say what has changed since: an earlier configuration, or what `explain --json` printed then.
    #[arg(long, value_name = "OLD")]
    pub(crate) diff: Option<PathBuf>,
}

/// Which of the running agents is asked.
#[derive(Debug, Args)]
pub(crate) struct Running {
    /// The socket of the agent [default: that of the agent with this configuration; where none is named, else of the only one that runs].
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// The form of what is printed.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) running: Running,
    /// Show it anew every second, until Ctrl-C.
    #[arg(long)]
    pub(crate) watch: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    #[command(flatten)]
    pub(crate) running: Running,
    /// How many lines, 1 to 1000.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub(crate) lines: u64,
    /// Go on with what is logged from now on, until Ctrl-C.
    #[arg(long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RequestsCommand {
    /// List them, the newest first.
    List(Running),
    /// Show one, with its answer.
    Show(OneRequest),
    /// Send one again to the same upstream, and show the answer.
    Replay(OneRequest),
}

#[derive(Debug, Args)]
pub(crate) struct OneRequest {
    /// Its number in the list.
    pub(crate) id: u64,
    #[command(flatten)]
    pub(crate) running: Running,
}

#[derive(Debug, Args)]
pub(crate) struct Diagnose {
    /// Write the report as JSON as well, mode 0600; it holds no secrets.
    #[arg(long, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Firewall {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Freeze {
    /// Why, for whoever looks.
    #[arg(long)]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) running: Running,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Print records.
    Show(AuditShow),
    /// Say whether all records are there and as they were written; else the first that does not fit, and exit with 1.
    Verify(AuditVerify),
    /// Write records for other programs, as they are or in the form of syslog.
    Export(AuditExport),
}

#[derive(Debug, Args)]
pub(crate) struct AuditPlace {
    /// The folder of the log [default: the policy's audit.path, or audit in the agent's state folder].
    #[arg(long, value_name = "FOLDER")]
    pub(crate) path: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct AuditShow {
    #[command(flatten)]
    pub(crate) place: AuditPlace,
    /// Records since then: 2026-11-29T08:00:00Z, 2026-11-29, or 30m, 12h, 7d ago.
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Records of an endpoint, by its name in the configuration or its URL.
    #[arg(long, value_name = "NAME|URL")]
    pub(crate) endpoint: Option<String>,
    /// Records with this decision: allowed, refused or obeyed.
    #[arg(long, value_parser = ["allowed", "refused", "obeyed"])]
    pub(crate) decision: Option<String>,
    /// Records of this kind: connection, end, refused, session, bind, command, policy and others.
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// Go on with what is written from now on, until interrupted.
    #[arg(long)]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) printed: Printed,
}

#[derive(Debug, Args)]
pub(crate) struct AuditVerify {
    #[command(flatten)]
    pub(crate) place: AuditPlace,
    /// A record that was known before, SEQ:HASH as this command printed it: it must still be there.
    #[arg(long, value_name = "SEQ:HASH")]
    pub(crate) head: Option<String>,
    #[command(flatten)]
    pub(crate) printed: Printed,
}

#[derive(Debug, Args)]
pub(crate) struct AuditExport {
    #[command(flatten)]
    pub(crate) place: AuditPlace,
    /// The number of the last record that is known already.
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    pub(crate) after: u64,
    /// json: the records as they are, one a line; syslog: RFC 5424 with the record as message.
    #[arg(long, value_name = "json|syslog", value_parser = ["json", "syslog"], default_value = "json")]
    pub(crate) format: String,
    /// A file to write to, at its end [default: standard output].
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
    /// Go on with what is written from now on, until interrupted.
    #[arg(long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Prove {
    /// The endpoint as callers know it: https://crm.example.com, tls://db.example.com:8443.
    pub(crate) url: String,
    /// Where to connect in place of the host and port of the URL.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) connect_to: Option<String>,
    /// The name of the endpoint in the configuration, where its url does not tell.
    #[arg(long, value_name = "NAME")]
    pub(crate) endpoint: Option<String>,
    /// Certificates that callers trust, PEM [default: those that this machine trusts].
    #[arg(long, value_name = "FILE")]
    pub(crate) callers_ca: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) printed: Printed,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say what is wrong with it: file, line, column, key, and what to do.
    Check(Printed),
    /// Read the authtoken from standard input and put it into the file, mode 0600.
    AddAuthtoken,
    /// Print the files that are read.
    Path(Printed),
    /// Make a configuration of that of an ngrok agent (version 2 or 3), and say what does not come along.
    Import(Import),
    /// Print the names of the endpoints, one a line.
    Endpoints(Printed),
    /// Print the JSON Schema of the configuration, or of the policy, for editors and checks.
    Schema(Schema),
    /// Look at the endpoints that the vendor has sent by a command, or remove them.
    #[command(subcommand)]
    Remote(RemoteCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum RemoteCommand {
    /// Print the document, when it was taken, and what the vendor said about it.
    Show(Printed),
    /// Remove it: an agent that runs gives its endpoints up, with what is open.
    Remove,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Their configuration: ngrok.yml.
    pub(crate) file: PathBuf,
    /// Where to write, mode 0600; files that belong to it come beside it [default: standard output].
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Overwrite what is there.
    #[arg(long, requires = "out")]
    pub(crate) force: bool,
    /// The domain below which the names of ngrok's own domains are to be.
    #[arg(long)]
    pub(crate) domain: Option<String>,
    /// Carry the authtoken over; without it, it is not: it is one for another network.
    #[arg(long, requires = "out")]
    pub(crate) keep_authtoken: bool,
    /// Write endpoints so that they run although what protected them at ngrok is not in force here.
    #[arg(long)]
    pub(crate) expose: bool,
    /// The form of the report.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Update {
    /// Say whether there is one, and change nothing.
    #[arg(long)]
    pub(crate) check: bool,
    /// How ripe it has to be [default: what the configuration says, else stable].
    #[arg(long, value_name = "stable|beta", value_parser = ["stable", "beta"])]
    pub(crate) channel: Option<String>,
    /// A folder that holds what is at the place of the releases: where that cannot be reached.
    #[arg(long, value_name = "DIR")]
    pub(crate) from: Option<PathBuf>,
    /// Take the version that is offered although it is lower or the same.
    #[arg(long)]
    pub(crate) allow_downgrade: bool,
    /// Take a version that did not connect here before.
    #[arg(long)]
    pub(crate) retry: bool,
    /// Replace the program although a package manager or an image looks after it.
    #[arg(long)]
    pub(crate) managed: bool,
    /// Take it without seeing it connect first.
    #[arg(long)]
    pub(crate) no_probe: bool,
    /// The form of what is printed.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Probe {
    /// How long it may take.
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub(crate) within: String,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell.
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The folder to write into, made if there is none [default: standard output, of `adit` alone].
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Schema {
    /// Of what: the agent's configuration, or the customer's own policy.
    #[arg(default_value = "agent", value_parser = ["agent", "policy"])]
    pub(crate) of: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertificateCommand {
    /// Make a key, unless there is one, and print a request for a certificate (PKCS #10); the key stays here.
    Request(Request),
    /// Check the certificate that came back, and put it where the configuration says.
    Install(Install),
    /// Print the certificate that callers are shown: fingerprint, names, end.
    Show(Show),
    /// Let the running agent order a new certificate at once, where it orders them itself (acme).
    Renew(Renew),
}

#[derive(Debug, Args)]
pub(crate) struct Renew {
    /// The name of the endpoint in the configuration.
    pub(crate) endpoint: String,
}

#[derive(Debug, Args)]
pub(crate) struct Request {
    /// The name of the endpoint in the configuration.
    pub(crate) endpoint: String,
    /// A name that the certificate is to stand for, once for each [default: the one in the endpoint's url].
    #[arg(long = "name", value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Where to write the request [default: standard output].
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Make a new key, which takes the place of the old one when its certificate is installed.
    #[arg(long)]
    pub(crate) new_key: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Install {
    /// The name of the endpoint in the configuration.
    pub(crate) endpoint: String,
    /// The certificate and those that issued it, PEM; - reads standard input.
    #[arg(default_value = "-")]
    pub(crate) certificate: PathBuf,
    /// Take it although it does not stand for the name in the endpoint's url.
    #[arg(long)]
    pub(crate) any_name: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The name of the endpoint in the configuration.
    pub(crate) endpoint: String,
    #[command(flatten)]
    pub(crate) printed: Printed,
}

#[derive(Debug, Args)]
pub(crate) struct Printed {
    /// The form of what is printed.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}

const AFTER_HELP: &str = "\
The authtoken comes from the file, from ADIT_AUTHTOKEN, from a file named by authtoken_file, or from standard input; never from
the command line, which everybody on the machine can read. Every key of `agent` is also a variable: ADIT_CONNECT_URL.

Exit codes:
    0  it did what it was asked to
    1  it failed while running
    2  the command line is wrong
    3  the configuration is not valid
    4  the network refused for good: credentials, ACL, revoked
    5  the network cannot be reached
    6  the customer's own policy refuses
    7  no agent runs that could be asked
    8  frozen or thawed on the disk, and no running agent confirmed it
  130  it was interrupted before it could end in order

SIGTERM and SIGINT let open connections finish; the second ends at once. SIGHUP reads configuration and policy again.
SIGUSR1 closes everything, as `adit freeze` does.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_token_cannot_be_given_on_the_command_line() {
        for arguments in [
            &["adit", "config", "add-authtoken", "t0k3n"][..],
            &["adit", "http", "8080", "--authtoken", "t0k3n"],
            &["adit", "--authtoken", "t0k3n", "start", "--all"],
        ] {
            assert_eq!(Arguments::try_parse_from(arguments).unwrap_err().exit_code(), 2, "{arguments:?}");
        }
    }

    #[test]
    fn the_help_says_what_the_exit_codes_mean() {
        let help = Arguments::command().render_long_help().to_string();

        for code in [
            "0  it did",
            "1  it failed",
            "2  the",
            "3  the",
            "4  the",
            "5  the",
            "6  the",
            "7  no",
            "8  frozen",
            "130  it",
        ] {
            assert!(help.contains(code), "{code}");
        }
    }
}
