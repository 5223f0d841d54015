//! Options of other programs that people type out of habit, and what btget has in their place.

/// What to do instead of these options.
const HABITS: &[(&[&str], &str)] = &[
    (
        &[
            "--dir",
            "--download-dir",
            "--output-folder",
            "--directory-prefix",
            "--folder",
            "--save-path",
            "--target",
            "-w",
            "-P",
            "-D",
        ],
        "say where the data go with -d DIR",
    ),
    (
        &["-O", "--out", "--output-document", "--remote-name"],
        "files are named as the torrent says; -d DIR says below which folder",
    ),
    (&["--dry-run", "--simulate", "-n"], "see what would be done with --plan"),
    (
        &["--in-order", "--stream", "--bt-prioritize-piece", "--player", "--mpv", "--vlc"],
        "get the pieces in order with --sequential, or play a file with --cat FILE",
    ),
    (
        &["--list", "--show-files", "--info", "--content", "--files-list", "-l", "-S", "-i"],
        "see what is in it with --show",
    ),
    (
        &[
            "--verify",
            "--check",
            "--check-integrity",
            "--hash-check",
            "--hash-check-only",
            "--bt-hash-check-seed",
            "--recheck",
            "-c",
        ],
        "check what is there with --hashcheck-only, or read all again before a download with --full-check",
    ),
    (
        &["--no-seeding", "--exit", "--exit-on-finish", "--quit", "--disable-upload", "-e"],
        "leave as soon as all is there with --no-seed",
    ),
    (&["--seed"], "it seeds without being told to"),
    (
        &["--ratio", "--seedratio", "--stop-ratio", "--seed-limit", "-sr"],
        "leave at a ratio with --seed-ratio R",
    ),
    (
        &[
            "--max-overall-download-limit",
            "--max-download-limit",
            "--downlimit",
            "--download-limit",
            "--ratelimit-download",
            "--limit-rate",
        ],
        "limit the rate with --max-download-rate RATE",
    ),
    (
        &[
            "--max-overall-upload-limit",
            "--max-upload-limit",
            "--uplimit",
            "--upload-limit",
            "--ratelimit-upload",
            "-u",
        ],
        "limit the rate with --max-upload-rate RATE",
    ),
    (
        &["--select-file", "--only-files", "--only-files-regex", "--index-out", "--file"],
        "choose files with --files LIST",
    ),
    (
        &["--listen-port", "--dht-listen-port", "--tcp-min-port", "--peerport"],
        "choose ports with --port LIST",
    ),
    (
        &["--interface", "--bind-address", "--bind-device", "--local-addr"],
        "choose the local address or interface with --bind ADDR|INTERFACE",
    ),
    (&["--bt-max-peers", "--peer-limit", "--max-connections"], "bound the connections with --max-peers N"),
    (&["--bt-tracker", "--trackers", "--announce", "-a"], "add trackers with --tracker URL"),
    (
        &["--bt-stop-timeout", "--timeout", "--max-time", "-m"],
        "give up after a while without new data with --stall-timeout DUR",
    ),
    (&["--file-allocation", "--allocation"], "choose how files are made with --preallocate HOW"),
    (
        &[
            "--on-bt-download-complete",
            "--on-download-complete",
            "--finish",
            "--torrent-done-script",
            "--exec",
            "-f",
        ],
        "run a program when all is there with --on-complete CMD",
    ),
    (
        &["--torrent-file", "--torrent", "-T", "--magnet-link", "--uri", "--url"],
        "name the .torrent or the magnet link by itself, without an option",
    ),
    (
        &["--bt-metadata-only", "--bt-save-metadata", "--save-metadata", "--metadata-only"],
        "write the .torrent of a magnet link with --show LINK --save-torrent FILE",
    ),
    (&["--enable-peer-exchange", "--disable-pex"], "end peer exchange with --no-pex"),
    (&["--enable-dht", "--enable-dht6", "--disable-dht", "--dht"], "end the DHT with --no-dht"),
    (
        &["--dht-entry-point", "--dht-entry-point6", "--dht-bootstrap-addrs"],
        "name nodes with --dht-bootstrap HOST:PORT",
    ),
    (&["--bt-enable-lpd", "--disable-lpd", "--disable-lsd"], "end local discovery with --no-lsd"),
    (
        &["--portmap", "--no-portmap", "--enable-upnp", "--disable-upnp", "--upnp", "--no-upnp"],
        "end port mapping with --no-port-map",
    ),
    (&["--initial-peers", "--peers", "--add-peer"], "name peers to call with --peer HOST:PORT"),
    (&["--silent", "--no-verbose", "-s"], "hear of errors alone with -q"),
    (
        &["--continue", "--resume", "--continue-at", "-C"],
        "it goes on from what is there without being told to",
    ),
    (
        &["--threads", "--jobs", "-j", "-x"],
        "it uses all cores for checks, and up to --max-peers N connections",
    ),
    (
        &["--daemon", "--background", "--detach", "-b"],
        "run it in the background with `nohup btget ... &`, or as a service",
    ),
];

/// What btget has in place of an option that it does not have, as clap names it (`--dir`, `-o`).
pub(crate) fn instead_of(option: &str) -> Option<&'static str> {
    let name = option.split('=').next().unwrap_or(option);
    let knows = |(options, _): &&(&[&str], &str)| options.contains(&name);
    HABITS.iter().find(knows).map(|(_, tip)| *tip)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::options::args::Args;
    use clap::CommandFactory;
    use std::collections::BTreeSet;

    #[test]
    fn no_option_of_ours_is_among_them_and_every_tip_names_one() {
        let ours: BTreeSet<String> = Args::command()
            .get_opts()
            .flat_map(|arg| {
                [arg.get_long().map(|l| format!("--{l}")), arg.get_short().map(|s| format!("-{s}"))]
            })
            .flatten()
            .collect();
        let mut seen = BTreeSet::new();
        for (options, tip) in HABITS {
            for option in *options {
                assert!(!ours.contains(*option), "{option}");
                assert!(seen.insert(*option), "{option} stands twice");
            }
            for word in tip.split([' ', ',', ';']).filter(|word| word.starts_with('-')) {
                assert!(ours.contains(word), "{tip}");
            }
        }
        assert_eq!(instead_of("--seed-ratio"), None);
        assert!(instead_of("--dir=x").is_some());
    }
}
