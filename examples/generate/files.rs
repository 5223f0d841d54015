//! The generated files, in memory: shared by the example that writes them and the test that
//! compares them.

use btget::internals::cli::manual;
use btget::internals::cli::options::args::Args;
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::Roff;

/// The day of the version, as the man page says it.
const DATE: &str = "2026-11-27";

/// `(path below the project, content)` of each.
pub fn all() -> Vec<(String, Vec<u8>)> {
    let shells = [
        (Shell::Bash, "btget.bash"),
        (Shell::Zsh, "_btget"),
        (Shell::Fish, "btget.fish"),
        (Shell::Elvish, "btget.elv"),
        (Shell::PowerShell, "_btget.ps1"),
    ];
    let completion = |(shell, name): (Shell, &str)| {
        let mut content = Vec::new();
        clap_complete::generate(shell, &mut Args::command(), "btget", &mut content);
        let content = String::from_utf8(content).expect("clap writes text");
        (format!("completions/{name}"), offering_torrents(shell, content).into_bytes())
    };
    std::iter::once(("man/btget.1".to_owned(), man())).chain(shells.map(completion)).collect()
}

/// clap's scripts offer options where a torrent is expected, and nothing behind one. Each of these offers .torrent files and folders there.
fn offering_torrents(shell: Shell, script: String) -> String {
    let replace = |script: &str, what: &str, by: &str| {
        assert!(script.contains(what), "clap_complete writes another script now: no {what}");
        script.replacen(what, by, 1)
    };
    match shell {
        Shell::Bash => {
            let script = replace(
                &script,
                "if [[ ${cur} == -* || ${COMP_CWORD} -eq 1 ]] ; then",
                "if [[ ${cur} == -* ]] ; then",
            );
            let last =
                "            esac\n            COMPREPLY=( $(compgen -W \"${opts}\" -- \"${cur}\") )\n";
            let torrents = "            esac\n            local IFS=$'\\n'\n            compopt -o filenames -o plusdirs 2>/dev/null\n            \
                            COMPREPLY=( $(compgen -f -X '!*.torrent' -- \"${cur}\") )\n";
            let script = replace(&script, last, torrents);
            // The shell's own would offer every file where there is no torrent.
            script.replace(" -o bashdefault -o default btget", " btget")
        }
        Shell::Zsh => {
            let begin = script.find("'*::torrents").expect("clap_complete writes the torrents last");
            let end = begin + script[begin..].find("_files'").expect("they are files") + "_files'".len();
            let script = format!("{}'*:torrent:_files -g \"*.torrent\"'{}", &script[..begin], &script[end..]);
            // clap does not escape the colon, at which zsh takes what follows for a command.
            replace(&script, ":HOST:PORT:", r":HOST\:PORT:")
        }
        // fish's own function offers other files too, behind those with the suffix.
        Shell::Fish => {
            let only = r#"string match --regex -- ".*(?:/|\.torrent)(?:\t.*)?\$""#;
            format!("{script}complete -c btget -k -f -a '(__fish_complete_suffix .torrent | {only})'\n")
        }
        _ => script,
    }
}

fn man() -> Vec<u8> {
    // The end of --help becomes sections of their own.
    let command = Args::command().after_help("").after_long_help("");
    let man = Man::new(command).manual("btget manual").date(DATE);
    let mut page = Vec::new();
    man.render_title(&mut page).expect("memory takes it");
    man.render_name_section(&mut page).expect("memory takes it");
    page.extend_from_slice(b".SH SYNOPSIS\n.B btget\n[OPTIONS] \\fITORRENT\\fR...\n");
    man.render_description_section(&mut page).expect("memory takes it");
    page.extend_from_slice(options(&man).as_bytes());
    page = in_bold(&String::from_utf8(page).expect("clap writes text")).into_bytes();
    for (heading, text) in manual::SECTIONS {
        let mut roff = Roff::new();
        roff.control("SH", [heading]);
        roff.to_writer(&mut page).expect("memory takes it");
        let text = if heading == "EVENTS" { manual::events_section() } else { text.to_owned() };
        page.extend_from_slice(in_bold(&text).as_bytes());
        page.push(b'\n');
    }
    page.extend_from_slice(b".SH SEE ALSO\n.BR aria2c (1),\n.BR transmission\\-cli (1)\n");
    page
}

/// Roff has bold where comments have backticks.
fn in_bold(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let bold = |(number, part)| if number % 2 == 1 { format!("\\fB{part}\\fR") } else { String::from(part) };
    parts.map(bold).collect()
}

/// The options, with clap's help headings as subsections instead of sections: one of them is
/// called like a section of ours.
fn options(man: &Man) -> String {
    let mut section = Vec::new();
    man.render_options_section(&mut section).expect("memory takes it");
    let section = String::from_utf8(section).expect("clap writes text");
    section.replace("\n.SH ", "\n.SS ").replace("\n.SS OPTIONS", "\n.SH OPTIONS")
}
