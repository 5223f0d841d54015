//! What `-h` shows, and what stands at the end of `-h` and `--help`.

use clap::CommandFactory;

use crate::cli::options::args::Args;

/// The options that `-h` shows, on one screen.
const BRIEF: [&str; 14] = [
    "basedir",
    "files",
    "show",
    "hashcheck_only",
    "no_seed",
    "seed_ratio",
    "stall_timeout",
    "port",
    "bind",
    "max_download_rate",
    "max_upload_rate",
    "json",
    "quiet",
    "help",
];

/// The two uses.
const USAGE: &str = "btget [OPTIONS] <TORRENT>...\n       btget --create <PATH> [-o <FILE>] [OPTIONS]";

/// What `-h` prints.
pub(crate) fn brief_help() -> clap::builder::StyledStr {
    let only_brief = |arg: clap::Arg| match BRIEF.contains(&arg.get_id().as_str()) {
        true => arg.help_heading(None::<&str>),
        false => arg.hide(true),
    };
    // clap leaves out what is hidden, the torrents too.
    Args::command().mut_args(only_brief).override_usage(USAGE).render_help()
}

/// The end of `-h`.
pub(super) const AFTER_HELP: &str =
    "All options, signals, exit codes, examples: btget --help, and man btget.";

/// The end of `--help`.
pub(super) const AFTER_LONG_HELP: &str = "\
Signals:
  SIGUSR1   pause: keep the peers, move no data      kill -USR1 $(pidof btget)
  SIGUSR2   start again                              kill -USR2 $(pidof btget)
  SIGINT, SIGTERM, SIGHUP
            stop: sync what is written, save resume data, tell the tracker (5 s at the
            most), exit. The same again exits at once; what is on disk stays consistent.
            What is ignored at the start stays so: SIGHUP under nohup, SIGINT of what
            a script starts with &.

Exit codes:
   0  everything wanted is complete and verified, and seeded as asked
   1  an error with no number of its own
   2  usage
   3  the .torrent at a URL: not found (19: unknown host, 6: network, 22: no sane HTTP answer,
      23: too many redirects, 24: not allowed in)
   5  gave up: no new data, or no metadata of a magnet link, for longer than --stall-timeout
   7  stopped, or checked, with wanted data missing (none of it corrupt)
   9  disk full
  11  another btget writes to this path, or another torrent of this run owns it
  13  a file that is not this torrent's stands in its place (see --overwrite)
  17  cannot read or write data
  26  not a valid .torrent; or the metadata of a magnet link are none that btget can use
  27  not a valid magnet link
  32  --hashcheck-only found data that are not the torrent's: corrupt, or files that are too long
 130  exited at once, by a second Ctrl-C
With several causes the most serious wins: 2, 26, 27, 3, 24, 22, 23, 19, 6, 17, 9, 13, 11, 32, 1, 5, 7. A hook that fails comes before all.

Examples:
  Download into ./storage, then seed until Ctrl-C:
    btget some.torrent --basedir ./storage

  Download and leave; give up when nothing comes for ten minutes:
    btget some.torrent -d ./storage --no-seed --stall-timeout 10m

  Go on only if every byte is right:
    btget some.torrent -d ./storage --hashcheck-only && publish ./storage

  What is in it, and just the text files:
    btget --show some.torrent
    btget some.torrent --files '*.txt' --no-seed

  What it would do, and whether the disk has room for it:
    btget some.torrent -d ./storage --plan

  Watch while it comes; the number is that of --show:
    btget some.torrent --cat 2 | mpv -

  A magnet link, in quotes; and just what it is, written as a .torrent:
    btget 'magnet:?xt=urn:btih:...' -d ./storage --no-seed
    btget --show 'magnet:?xt=urn:btih:...' --save-torrent some.torrent

  Make a torrent of a folder; its magnet link is printed:
    btget --create ./photos --tracker https://tracker.example/announce

  From a pipe, with events for a program to read:
    curl -s https://example.org/some.torrent | btget - --json --no-seed | jq -r .message

  From a URL:
    btget https://example.org/some.torrent -d ./storage --no-seed";
