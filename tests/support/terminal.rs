//! A terminal for a test, drawn by tmux: keys go in, what stands on the screen comes out.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use super::clients::is_in_path;
use super::process::wait_until;

/// Whether there is tmux.
pub fn has_tmux() -> bool {
    is_in_path("tmux")
}

/// A terminal with a program in it; both end with this.
pub struct Terminal {
    /// Its socket: no other tmux of this machine is touched.
    folder: TempDir,
}

impl Terminal {
    /// A terminal of so many columns and rows, in which `command` runs, as words for a shell, in `folder`.
    pub fn new((columns, rows): (usize, usize), folder: &Path, command: &str) -> Terminal {
        let terminal = Terminal { folder: TempDir::new().unwrap() };
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let output = Command::new("tmux")
            .env("LC_ALL", "C.UTF-8")
            .env_remove("TMUX")
            .args(["-u", "-f", "/dev/null", "-S"])
            .arg(terminal.socket())
            .args(["new-session", "-d", "-x", &columns, "-y", &rows, "-c"])
            .arg(folder)
            .arg(command)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        terminal
    }

    /// One with a bare shell that waits for commands. What it is called with is in its environment.
    pub fn with_shell(size: (usize, usize), folder: &Path, environment: &str) -> Terminal {
        let terminal = Terminal::new(size, folder, &format!("env {environment} PS1='$ ' sh -i"));
        terminal.wait_for("a prompt", |screen| screen.iter().any(|line| line == "$"));
        terminal
    }

    fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("socket")
    }

    fn tmux(&self, arguments: &[impl AsRef<OsStr>]) -> Output {
        Command::new("tmux").arg("-S").arg(self.socket()).args(arguments).output().unwrap()
    }

    /// Types text as it stands.
    pub fn type_in(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    /// Presses a key: `Enter`, `Tab`, `C-c`.
    pub fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// Types a line and presses Enter.
    pub fn run(&self, line: &str) {
        self.type_in(line);
        self.press("Enter");
    }

    /// Gives it another size.
    pub fn resize(&self, columns: usize, rows: usize) {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    /// What is written to the terminal from now on goes to this file too.
    pub fn record(&self, file: &Path) {
        self.tmux(&["pipe-pane", "-o", &format!("cat >> '{}'", file.display())]);
    }

    /// The lines on the screen, without the spaces at their ends and the empty ones at the end.
    pub fn screen(&self) -> Vec<String> {
        self.capture(&["capture-pane", "-p"])
    }

    /// The same with what has left it at the top, and lines that were broken as one.
    pub fn all(&self) -> Vec<String> {
        self.capture(&["capture-pane", "-p", "-J", "-S", "-"])
    }

    /// The same with colours.
    pub fn colored(&self) -> String {
        self.capture(&["capture-pane", "-p", "-e"]).join("\n")
    }

    fn capture(&self, arguments: &[&str]) -> Vec<String> {
        let output = self.tmux(arguments);
        let text = String::from_utf8(output.stdout).expect("tmux writes UTF-8");
        text.trim_end().lines().map(|line| line.trim_end().to_owned()).collect()
    }

    /// Waits until the screen is as asked, and gives it.
    pub fn wait_for(&self, what: &str, is_it: impl Fn(&[String]) -> bool) -> Vec<String> {
        wait_until(what, || self.screen().join("\n"), || Some(self.screen()).filter(|screen| is_it(screen)))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}
