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
    let wanted = [ZSH_NAMES, ZSH_NAME, ZSH_OPTION, ZSH_FILTER];
    let script = wanted.iter().fold(script, |script, text| script.replace(text, &by_names(text)));
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
    local word=${COMP_WORDS[COMP_CWORD]} last=${COMP_WORDS[COMP_CWORD-1]} before=" ${COMP_WORDS[*]:1:COMP_CWORD-1} " at
    # Words are divided at `=`: --endpoint=NAME is three of them.
    if [[ $word == "=" || $last == "=" ]]; then
        [[ $word == "=" ]] && word="" || last=${COMP_WORDS[COMP_CWORD-2]}
    fi
    if [[ $last != --endpoint ]]; then
        [[ $before =~ \ start\ |\ certificate\ (request|install|show|renew)\  ]] || return 0
        [[ $word == -* || $last == --* ]] && return 0
    fi
    local files=()
    for ((at = 1; at + 1 < COMP_CWORD; at++)); do
        [[ ${COMP_WORDS[at]} == --config ]] || continue
        [[ ${COMP_WORDS[at+1]} == "=" ]] && ((at++))
        files+=(--config "${COMP_WORDS[at+1]}")
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
function __adit_endpoint_names
    set -l files
    set -l last
    for word in (commandline -opc)
        string match -q -- '--config=*' $word; and set -a files $word
        test "$last" = --config; and set -a files --config $word
        set last $word
    end
    adit config endpoints $files 2>/dev/null
end
complete -c adit -n "__fish_adit_using_subcommand start" -f -a "(__adit_endpoint_names)"
complete -c adit -n "__fish_adit_using_subcommand certificate; and __fish_seen_subcommand_from request install show renew" -f -a "(__adit_endpoint_names)"
complete -c adit -n "__fish_adit_using_subcommand audit; and __fish_seen_subcommand_from show" -l endpoint -x -a "(__adit_endpoint_names)"
complete -c adit -n "__fish_adit_using_subcommand prove" -l endpoint -x -a "(__adit_endpoint_names)"
"#;

const ZSH: &str = r#"
_adit_endpoint_names() {
    local -a names typed files
    local at
    typed=(${(Qz)LBUFFER}) # of the words below a command those before it are not there any more
    for ((at = 2; at < $#typed; at++)); do
        [[ $typed[at] == --config ]] && files+=(--config "$typed[at+1]")
        [[ $typed[at] == --config=* ]] && files+=("$typed[at]")
    done
    names=(${(f)"$(_call_program endpoints adit config endpoints ${(q)files[@]} 2>/dev/null)"})
    compadd -a names
}
"#;
const ZSH_NAMES: &str = "names -- The names of endpoints in the configuration:_default";
const ZSH_OPTION: &str = "where its url does not tell]:NAME:_default";
const ZSH_FILTER: &str = "by its name in the configuration or its URL]:NAME|URL:_default";
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
            7,
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
