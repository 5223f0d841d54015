//! The completions in a real shell.

use std::path::Path;
use std::process::Command;

/// What bash offers where the line ends.
fn offered_by_bash(folder: &Path, line: &str) -> Vec<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/completions/btget.bash");
    let drive = r#"
        . "$1"
        cd "$2"
        COMP_WORDS=($3)
        [[ "$3" == *" " ]] && COMP_WORDS+=("")
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        compopt() { for word; do [[ $word == plusdirs ]] && dirs=1; done; }
        _btget btget "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        printf '%s\n' "${COMPREPLY[@]}"
        [[ $dirs ]] && compgen -d -- "${COMP_WORDS[COMP_CWORD]}"
        true"#;
    let output = Command::new("bash")
        .args(["--norc", "-c", drive, "bash", script])
        .arg(folder)
        .arg(line)
        .output()
        .expect("bash runs");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn bash_offers_torrents_folders_options_and_values() {
    if Command::new("bash").arg("--version").output().is_err() {
        return; // A machine without it.
    }
    let folder = tempfile::tempdir().unwrap();
    for file in ["a.torrent", "b c.torrent", "notes.txt"] {
        std::fs::write(folder.path().join(file), "").unwrap();
    }
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let offered = |line: &str| {
        let mut offered = offered_by_bash(folder.path(), line);
        offered.sort();
        offered
    };
    assert_eq!(offered("btget "), ["a.torrent", "b c.torrent", "data"]);
    assert_eq!(offered("btget a.torrent "), ["a.torrent", "b c.torrent", "data"]);
    assert_eq!(offered("btget --no-seed a"), ["a.torrent"]);
    assert_eq!(offered("btget a.torrent --hash"), ["--hashcheck-only"]);
    assert_eq!(offered("btget --no-s"), ["--no-seed"]);
    assert_eq!(offered("btget a.torrent --preallocate "), ["full", "none", "sparse"]);
}
