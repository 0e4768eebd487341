//! What is made of the command line's own description: completion for shells, and manual pages.

use std::{fs, io, path::Path};

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Failure, arguments::Arguments, print};
use crate::errors::{Error, Exit, Fault};

/// Returns what a shell reads to complete words; where a name of an endpoint is wanted, it asks `adit config endpoints`.
pub(super) fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "adit", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    if shell == Shell::Bash {
        return script + BASH;
    }
    if shell == Shell::Fish {
        return script + FISH;
    }
    if shell != Shell::Zsh {
        return script;
    }
    let by_names = |text: &str| text.replace("_default", "_adit_endpoint_names");
    let script = script.replace(ZSH_NAMES, &by_names(ZSH_NAMES)).replace(ZSH_NAME, &by_names(ZSH_NAME));
    // It ends by completing, when it is loaded for that: functions come before.
    match script.split_once("\n_adit() {") {
        Some((head, rest)) => format!("{head}\n{ZSH}\n_adit() {{{rest}"),
        None => script,
    }
}

/// Writes the manual pages into a folder, or prints the first.
pub(super) fn pages(out: Option<&Path>) -> Result<Exit, Failure> {
    let Some(folder) = out else {
        let mut page = Vec::new();
        Man::new(Arguments::command()).date(DATE).source(SOURCE).manual(MANUAL).render(&mut page)?;
        print(&String::from_utf8_lossy(&page))?;
        return Ok(Exit::Fine);
    };
    let mut command = Arguments::command();
    command.build(); // gives each command below its whole name
    let done = fs::create_dir_all(folder).and_then(|()| write(&command, folder));
    let written = done.map_err(|error| Error::new(Fault::FileUnwritable, format!("{}: {error}", folder.display())))?;
    print(&format!("{written} pages written to {}\n", folder.display()))?;
    Ok(Exit::Fine)
}

/// Writes the page of a command and those of the commands below it; returns how many.
fn write(command: &Command, folder: &Path) -> io::Result<usize> {
    let man = Man::new(command.clone()).date(DATE).source(SOURCE).manual(MANUAL);
    let mut page = Vec::new();
    man.render(&mut page)?;
    fs::write(folder.join(man.get_filename()), page)?;
    let below = command.get_subcommands().filter(|below| !below.is_hide_set());
    below.map(|below| write(below, folder)).try_fold(1, |sum, written| Ok(sum + written?))
}

const MANUAL: &str = "Adit";
const SOURCE: &str = concat!("adit ", env!("CARGO_PKG_VERSION"));
/// Of the commands' last change, not of the build: the same source makes the same pages.
const DATE: &str = "2026-11-29";

const BASH: &str = r#"
_adit_with_endpoints() {
    _adit "$@"
    local word=${COMP_WORDS[COMP_CWORD]} before=" ${COMP_WORDS[*]:1:COMP_CWORD-1} " at
    [[ $before =~ \ start\ |\ certificate\ (request|install|show)\  ]] || return 0
    [[ $word == -* || ${COMP_WORDS[COMP_CWORD-1]} == --* ]] && return 0
    local files=()
    for ((at = 1; at + 1 < COMP_CWORD; at++)); do
        [[ ${COMP_WORDS[at]} == --config ]] && files+=(--config "${COMP_WORDS[at+1]}")
    done
    COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" config endpoints "${files[@]}" 2>/dev/null)" -- "$word"))
}

if [[ "${BASH_VERSINFO[0]}" -eq 4 && "${BASH_VERSINFO[1]}" -ge 4 || "${BASH_VERSINFO[0]}" -gt 4 ]]; then
    complete -F _adit_with_endpoints -o nosort -o bashdefault -o default adit
else
    complete -F _adit_with_endpoints -o bashdefault -o default adit
fi
"#;

const FISH: &str = r#"
complete -c adit -n "__fish_adit_using_subcommand start" -f -a "(adit config endpoints 2>/dev/null)"
complete -c adit -n "__fish_adit_using_subcommand certificate; and __fish_seen_subcommand_from request install show" -f -a "(adit config endpoints 2>/dev/null)"
"#;

const ZSH: &str = r#"
_adit_endpoint_names() {
    local -a names
    names=(${(f)"$(_call_program endpoints adit config endpoints 2>/dev/null)"})
    compadd -a names
}
"#;
const ZSH_NAMES: &str = "names -- The names of endpoints in the configuration:_default";
const ZSH_NAME: &str = "endpoint -- The name of the endpoint in the configuration:_default";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_name_is_wanted_each_shell_asks_for_names() {
        for shell in [Shell::Bash, Shell::Fish] {
            let script = completions(shell);
            assert!(script.contains("config endpoints"), "{shell}");
        }
        let zsh = completions(Shell::Zsh);
        assert_eq!(
            zsh.matches("_adit_endpoint_names'").count() + zsh.matches("_adit_endpoint_names\"").count(),
            5,
            "{zsh}"
        );
        assert_eq!(zsh.matches("\n_adit_endpoint_names() {").count(), 1);
        for shell in [Shell::PowerShell, Shell::Elvish] {
            assert!(completions(shell).contains("add-authtoken"), "{shell}");
        }
    }

    #[test]
    fn every_command_has_its_page() {
        let folder = crate::testing::folder("man");

        pages(Some(&folder)).unwrap();

        let page = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        assert!(page("adit.1").contains("Exit codes"));
        assert!(page("adit-config-check.1").contains("adit\\-config\\-check"));
        assert!(page("adit-start.1").contains(DATE) && page("adit-certificate-request.1").contains("PKCS"));
    }
}
