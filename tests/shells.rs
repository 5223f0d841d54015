//! Completions in real shells at a terminal, and the man page as the programs that show it read it. What this machine lacks is
//! reported as ignored; tests/run installs it.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use libtest_mimic::{Arguments, Trial};
use tempfile::TempDir;

use support::clients::{Btget, is_in_path};
use support::system::trial;
use support::terminal::{Terminal, has_tmux};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[derive(Clone, Copy, Debug)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    fn name(self) -> &'static str {
        match self {
            Shell::Bash => "bash",
            Shell::Zsh => "zsh",
            Shell::Fish => "fish",
        }
    }

    /// A terminal with this shell, that knows the completions and no others of this machine, in `folder`.
    fn start(self, folder: &Path, home: &Path) -> Terminal {
        let completions = format!("{ROOT}/completions");
        let path = format!("{}:$PATH", Path::new(Btget::program()).parent().unwrap().display());
        let home_set = format!("env HOME='{}' PATH=\"{path}\" LC_ALL=C.UTF-8 TERM=screen", home.display());
        let command = match self {
            Shell::Bash => {
                let text = format!(
                    "PS1='$ '; bind 'set show-all-if-ambiguous on'; bind 'set enable-bracketed-paste off'; . {completions}/btget.bash\n"
                );
                fs::write(home.join("rc"), text).unwrap();
                format!("{home_set} bash --noprofile --rcfile '{}' -i", home.join("rc").display())
            }
            Shell::Zsh => {
                let text = format!(
                    "PS1='$ '; fpath=({completions} $fpath); autoload -Uz compinit; compinit -u -D\n"
                );
                fs::write(home.join(".zshrc"), text).unwrap();
                format!("{home_set} ZDOTDIR='{}' zsh -d -i", home.display())
            }
            Shell::Fish => {
                let text = format!(
                    "function fish_prompt; echo -n '$ '; end\nset -g fish_autosuggestion_enabled 0\nsource {completions}/btget.fish\n"
                );
                fs::write(home.join("start.fish"), text).unwrap();
                format!("{home_set} fish --no-config -i -C 'source {}'", home.join("start.fish").display())
            }
        };
        let terminal = Terminal::new((160, 50), folder, &command);
        terminal.wait_for("a prompt", |screen| screen.last().is_some_and(|line| line.trim_end() == "$"));
        terminal
    }
}

/// What stands below the line, or in it, after a Tab, is all of `wanted` and none of `unwanted`.
fn offers(terminal: &Terminal, line: &str, wanted: &[&str], unwanted: &[&str]) {
    // No C-c: with the signal the system forgets keys that come right after it.
    terminal.press("C-u");
    terminal.press("C-l");
    terminal.wait_for("an empty screen", |screen| screen == ["$"]);
    terminal.type_in(line);
    let typed = format!("$ {line}");
    terminal.wait_for("the line", |screen| screen.first().is_some_and(|line| line == typed.trim_end()));
    terminal.press("Tab");
    let screen = terminal.wait_for(&format!("{wanted:?} after '{line}'"), |screen| {
        let screen = screen.join("\n");
        wanted.iter().all(|it| screen.contains(it))
    });
    let text = screen.join("\n");
    assert!(unwanted.iter().all(|it| !text.contains(it)), "'{line}':\n{text}");
}

fn completes(shell: Shell) {
    let (folder, home) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    for file in ["one.torrent", "two words.torrent", "notes.txt"] {
        fs::write(folder.path().join(file), "").unwrap();
    }
    fs::create_dir(folder.path().join("storage")).unwrap();
    let terminal = shell.start(folder.path(), home.path());
    let words = if let Shell::Fish = shell { "two" } else { "words.torrent" };
    offers(&terminal, "btget ", &["one.torrent", words, "storage"], &["notes.txt", "--no-seed"]);
    offers(&terminal, "btget one.torrent ", &["one.torrent", words, "storage"], &["notes.txt"]);
    offers(&terminal, "btget on", &["btget one.torrent"], &[]);
    offers(&terminal, "btget --no-s", &["btget --no-seed"], &[]);
    offers(&terminal, "btget one.torrent --hashc", &["btget one.torrent --hashcheck-only"], &[]);
    offers(&terminal, "btget --no-seed on", &["btget --no-seed one.torrent"], &[]);
    offers(&terminal, "btget one.torrent --preallocate ", &["none", "sparse", "full"], &["notes.txt"]);
    offers(&terminal, "btget one.torrent --basedir st", &["--basedir storage/"], &[]);
    offers(&terminal, "btget one.torrent -d st", &["-d storage/"], &[]);
}

/// Nothing on standard error, and nothing else that counts as a complaint.
fn says_nothing(program: &str, arguments: &[&str]) {
    let page = format!("{ROOT}/man/btget.1");
    let output = Command::new(program).env("LC_ALL", "C.UTF-8").args(arguments).arg(page).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{program}: {said}");
}

fn main() -> std::process::ExitCode {
    let shells = [Shell::Bash, Shell::Zsh, Shell::Fish].map(|shell| {
        let possible = has_tmux() && is_in_path(shell.name());
        trial(
            &format!("{}_completes_torrents_folders_options_and_values", shell.name()),
            possible,
            move || completes(shell),
        )
    });
    let lint = trial("mandoc_has_no_complaint_about_the_man_page", is_in_path("mandoc"), || {
        says_nothing("mandoc", &["-T", "lint", "-W", "warning"]);
    });
    let groff = trial("groff_has_no_complaint_about_the_man_page", is_in_path("groff"), || {
        says_nothing("groff", &["-ww", "-man", "-Tutf8", "-z"]);
    });
    let man = trial("man_shows_the_man_page_without_a_warning", is_in_path("man"), || {
        let page = format!("{ROOT}/man/btget.1");
        let output = Command::new("man").args(["--warnings", "-l", &page]).output().unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("EXIT STATUS"));
    });
    let trials: Vec<Trial> = shells.into_iter().chain([lint, groff, man]).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
