//! Checked arguments: what the rest of the command line works with.
//!
//! Everything that is wrong with the options alone is found here, before anything is opened.

use std::ffi::OsStr;
use std::io::IsTerminal;
use std::ops::Range;
use std::path::PathBuf;

use crate::cli::options::args::{
    Args, EncryptionArg, FileErrorArg, Level, Prealloc, ProgressArg, StateArg, TransportArg, When,
};
use crate::cli::options::making::CreateOptions;
use crate::cli::options::select::Selector;
use crate::cli::options::urls::{PROXY_VARIABLES, proxy, torrent_url, tracker_tiers, web_seed};
use crate::cli::options::values::{Program, Weighted};
use crate::client::{
    Bind, DhtOptions, EncryptionPolicy, FileErrorAction, Order, Proxy, SessionOptions, TorrentOptions,
    TransportPolicy,
};
use crate::event::{Severity, State};
use crate::metainfo::{PeerAddress, is_magnet};
use crate::storage::Preallocate;
use crate::text::{Remedies, escape, without_credentials};
use anyhow::{anyhow, bail};

/// Where a torrent comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum TorrentSource {
    /// `-`.
    Stdin,
    /// A file.
    Path(PathBuf),
    /// A magnet link.
    Magnet(String),
    /// An http or https URL of a .torrent; it may hold a password.
    Url(String),
}

impl TorrentSource {
    /// The path as the user named it.
    pub(crate) fn name(&self) -> String {
        match self {
            TorrentSource::Stdin => "-".to_owned(),
            TorrentSource::Path(path) => path.to_string_lossy().into_owned(),
            TorrentSource::Magnet(link) => link.clone(),
            TorrentSource::Url(url) => without_credentials(url).into_owned(),
        }
    }
}

/// What is to be done with the torrents.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// `--show`.
    Show,
    /// `--plan`.
    Plan,
    /// `--hashcheck-only`, of these pieces; empty: all.
    Check(Vec<Range<u32>>),
    /// Download and seed.
    Transfer,
    /// `--create`.
    Create(Box<CreateOptions>),
}

/// How progress is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// Drawn in place, on a terminal.
    Bars,
    /// A line every 10 s.
    Lines,
    /// No progress is shown.
    None,
}

/// How much is said on stderr.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Verbosity {
    /// Errors.
    Quiet,
    /// Errors, warnings, changes of state, outcomes.
    Normal,
    /// What happens.
    Verbose,
    /// Every step.
    Debug,
}

/// The options, checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The torrents, in order.
    pub sources: Vec<TorrentSource>,
    /// What to do with them.
    pub mode: Mode,
    /// For all torrents together.
    pub session: SessionOptions,
    /// For each torrent; its priorities follow from `files` and `weights`.
    pub torrent: TorrentOptions,
    /// `--ip-filter`.
    pub ip_filter: Vec<PathBuf>,
    /// `--magnet`.
    pub magnet: bool,
    /// `--save-torrent`.
    pub save_torrent: Option<PathBuf>,
    /// `--files`.
    pub files: Vec<Selector>,
    /// `--priority`.
    pub weights: Vec<Weighted>,
    /// `--cat`.
    pub cat: Option<Selector>,
    /// `--on-complete`.
    pub on_complete: Option<Program>,
    /// `--on-error`.
    pub on_error: Option<Program>,
    /// `--json`, and the least severity asked for.
    pub json: Option<Severity>,
    /// How progress is shown.
    pub progress: Progress,
    /// How much is said.
    pub verbosity: Verbosity,
    /// `--quiet`: nothing is said but errors, also where no event tells of it.
    pub is_quiet: bool,
    /// Whether stdout is a terminal.
    pub stdout_terminal: bool,
    /// Whether stdout gets colour.
    pub color_stdout: bool,
    /// Whether stderr gets colour.
    pub color_stderr: bool,
}

/// What the options are judged by besides themselves: the environment and the terminal.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surroundings {
    /// `$XDG_STATE_HOME`.
    pub xdg_state_home: Option<PathBuf>,
    /// `$HOME`.
    pub home: Option<PathBuf>,
    /// `$NO_COLOR` is set and not empty.
    pub no_color: bool,
    /// `$TERM` is `dumb`, or says nothing.
    pub dumb: bool,
    /// Stdout is a terminal.
    pub stdout_terminal: bool,
    /// Stderr is a terminal.
    pub stderr_terminal: bool,
    /// The proxy of the environment, for `--proxy env`: `all_proxy`, else `https_proxy`, else `http_proxy`, also in capitals.
    pub proxy: Option<String>,
}

impl Surroundings {
    /// As this process finds them.
    pub(crate) fn of_process() -> Surroundings {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Surroundings {
            xdg_state_home: set("XDG_STATE_HOME").map(PathBuf::from),
            home: set("HOME").map(PathBuf::from),
            no_color: set("NO_COLOR").is_some(),
            dumb: set("TERM").is_none_or(|term| term == "dumb"),
            stdout_terminal: std::io::stdout().is_terminal(),
            stderr_terminal: std::io::stderr().is_terminal(),
            proxy: PROXY_VARIABLES
                .into_iter()
                .find_map(|name| std::env::var(name).ok().filter(|url| !url.trim().is_empty())),
        }
    }

    fn state_dir(&self) -> Option<PathBuf> {
        // The XDG specification: a relative path is to be ignored.
        let xdg = self.xdg_state_home.clone().filter(|path| path.is_absolute());
        let base = xdg.or_else(|| Some(self.home.as_ref()?.join(".local/state")));
        base.map(|base| base.join("btget"))
    }
}

impl Config {
    /// Checks what the options mean together. The error is a whole message for the user.
    pub(crate) fn new(args: Args, around: &Surroundings) -> anyhow::Result<Config> {
        let trackers = tracker_tiers(&args.tracker)?;
        let web_seeds = args.webseed.iter().map(|url| web_seed(url)).collect::<anyhow::Result<Vec<_>>>()?;
        let create = CreateOptions::new(&args, &trackers, &web_seeds)?;
        let mode = match (args.show, args.hashcheck_only) {
            (true, _) => Mode::Show,
            _ if args.plan => Mode::Plan,
            (_, true) => Mode::Check(args.pieces.as_ref().map(|pieces| pieces.0.clone()).unwrap_or_default()),
            _ => create.map_or(Mode::Transfer, |options| Mode::Create(Box::new(options))),
        };
        // A plan is about what the other options say.
        match mode {
            Mode::Show => refuse_transfer_options(&args, "--show", "--show some.torrent")?,
            Mode::Check(_) => {
                refuse_transfer_options(&args, "--hashcheck-only", "--hashcheck-only some.torrent")?;
            }
            Mode::Create(_) => refuse_transfer_options(&args, "--create", "--create ./folder")?,
            Mode::Plan | Mode::Transfer => {}
        }
        if let (Mode::Check(_), Some(url)) =
            (&mode, args.torrents.iter().find(|torrent| has_scheme(torrent.as_os_str())))
        {
            let url = escape(&without_credentials(&url.to_string_lossy())).into_owned();
            bail!(
                "--hashcheck-only opens no socket, and {url} is to be fetched; get the .torrent first, e.g. btget --show URL --save-torrent some.torrent"
            );
        }
        let verbosity = match (args.quiet, args.verbose) {
            (true, _) => Verbosity::Quiet,
            // The events say it, and who reads them may print to the same terminal.
            (_, 0) if args.json && args.progress == ProgressArg::Auto => Verbosity::Quiet,
            (_, 0) => Verbosity::Normal,
            (_, 1) => Verbosity::Verbose,
            _ => Verbosity::Debug,
        };
        let drawable = around.stderr_terminal && !around.dumb;
        let progress = match args.progress {
            ProgressArg::None => Progress::None,
            ProgressArg::Auto if args.quiet || args.json => Progress::None,
            ProgressArg::Auto | ProgressArg::Bars if drawable => Progress::Bars,
            _ => Progress::Lines,
        };
        let color = |terminal: bool| match args.color {
            When::Always => true,
            When::Never => false,
            When::Auto => terminal && !around.no_color && !around.dumb,
        };
        Ok(Config {
            sources: sources(&args.torrents)?,
            session: session_options(&args, &mode, around, proxy(&args, around)?),
            mode,
            torrent: TorrentOptions { trackers, web_seeds, ..torrent_options(&args, around) },
            json: args.json.then(|| args.events.map_or(Severity::Info, severity)),
            progress,
            verbosity,
            is_quiet: args.quiet,
            stdout_terminal: around.stdout_terminal,
            color_stdout: color(around.stdout_terminal),
            color_stderr: color(around.stderr_terminal),
            save_torrent: one_torrent(&args).and_then(|()| save_torrent(&args))?,
            ip_filter: args.ip_filter,
            files: args.files,
            weights: args.priority,
            magnet: args.making.magnet,
            cat: args.cat,
            on_complete: args.on_complete,
            on_error: args.on_error,
        })
    }
}

/// An option that would silently do nothing is a mistake in a script: refuse it. Limits and
/// addresses stay allowed, so that one set of options can serve a download and its check.
fn refuse_transfer_options(args: &Args, mode: &str, example: &str) -> anyhow::Result<()> {
    let given = [
        (args.state.is_some(), "--state"),
        (args.no_seed, "--no-seed"),
        (args.seed_ratio.is_some(), "--seed-ratio"),
        (args.seed_time.is_some(), "--seed-time"),
        (args.stall_timeout.is_some() && !args.torrents.iter().any(is_magnet), "--stall-timeout"),
        (args.preallocate.is_some(), "--preallocate"),
        (args.file_error.is_some(), "--file-error"),
        (args.overwrite && args.making.create.is_none(), "--overwrite"),
        (args.sequential, "--sequential"),
    ];
    match given.iter().find(|(given, _)| *given) {
        Some((_, option)) => Err(anyhow!(
            "{option} is about downloading and {mode} downloads nothing; leave one of them out, e.g. btget {example}"
        )),
        None => Ok(()),
    }
}

/// `--cat` is about one file of one torrent.
fn one_torrent(args: &Args) -> anyhow::Result<()> {
    match args.cat.is_some() && args.torrents.len() > 1 {
        true => {
            bail!("--cat is about one torrent and {} are given; run btget once for each", args.torrents.len())
        }
        false => Ok(()),
    }
}

/// `--save-torrent` is about one torrent, and keeps standard output for itself if that is what it writes to.
fn save_torrent(args: &Args) -> anyhow::Result<Option<PathBuf>> {
    let Some(path) = &args.save_torrent else { return Ok(None) };
    if args.torrents.len() > 1 {
        bail!(
            "--save-torrent is about one torrent and {} are given; run btget once for each",
            args.torrents.len()
        );
    }
    let others = [(args.json, "--json"), (args.show, "--show"), (args.cat.is_some(), "--cat")];
    let other = others.iter().find(|(given, _)| *given && path.as_os_str() == "-");
    if let Some((_, other)) = other {
        bail!("--save-torrent - and {other} both write to standard output; give a file");
    }
    Ok(Some(path.clone()))
}

fn sources(torrents: &[PathBuf]) -> anyhow::Result<Vec<TorrentSource>> {
    let mut sources = Vec::new();
    for torrent in torrents {
        let source = match torrent.as_os_str() {
            dash if dash == OsStr::new("-") => TorrentSource::Stdin,
            link if is_magnet(link) => TorrentSource::Magnet(link.to_string_lossy().into_owned()),
            url if has_scheme(url) => TorrentSource::Url(torrent_url(&url.to_string_lossy())?),
            _ => TorrentSource::Path(torrent.clone()),
        };
        if source == TorrentSource::Stdin && sources.contains(&source) {
            bail!(
                "'-' is given twice, but standard input can be read once; give the other torrents as files, e.g. btget - other.torrent"
            );
        }
        sources.push(source);
    }
    Ok(sources)
}

/// Nodes of the DHT that are well known, and looked after by makers of clients.
const BOOTSTRAP: [(&str, u16); 5] = [
    ("router.bittorrent.com", 6881),
    ("dht.transmissionbt.com", 6881),
    ("dht.libtorrent.org", 25401),
    ("router.utorrent.com", 6881),
    ("dht.aelitis.com", 6881),
];

fn dht_options(args: &Args, mode: &Mode, around: &Surroundings) -> Option<DhtOptions> {
    let given = args.dht_bootstrap.iter().filter_map(|node| node.0.clone());
    let is_local = args.bind.as_ref().is_some_and(Bind::is_loopback);
    let bootstrap = match args.dht_bootstrap.is_empty() && !is_local {
        true => BOOTSTRAP.map(|(host, port)| PeerAddress::Name(host.to_owned(), port)).to_vec(),
        false => given.collect(),
    };
    // Who only wants to know what a torrent is has nothing to offer.
    let read_only = matches!(mode, Mode::Show | Mode::Plan);
    (!args.no_dht).then(|| DhtOptions { bootstrap, state_dir: state_dir(args, around), read_only })
}

fn state_dir(args: &Args, around: &Surroundings) -> Option<PathBuf> {
    match &args.state_dir {
        Some(dir) => Some(dir.clone()).filter(|dir| !dir.as_os_str().is_empty()),
        None => around.state_dir(),
    }
}

/// Whether it is a URL; a path has no scheme (RFC 3986 section 3.1).
fn has_scheme(text: &OsStr) -> bool {
    let text = text.to_string_lossy();
    let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
    let may_follow = |char: char| char.is_ascii_alphanumeric() || matches!(char, '+' | '-' | '.');
    scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && scheme.chars().all(may_follow)
}

fn session_options(args: &Args, mode: &Mode, around: &Surroundings, proxy: Option<Proxy>) -> SessionOptions {
    SessionOptions {
        ports: args.port.as_ref().map_or_else(|| vec![0], |ports| ports.0.clone()),
        bind: args.bind.clone(),
        proxy,
        max_peers: args.max_peers,
        upload_slots: args.upload_slots,
        max_downloads: args.max_downloads,
        peer_exchange: !args.no_pex,
        local_discovery: !args.no_lsd,
        port_mapping: !args.no_port_map,
        encryption: match args.encryption {
            None | Some(EncryptionArg::Allow) => EncryptionPolicy::Allow,
            Some(EncryptionArg::Off) => EncryptionPolicy::Off,
            Some(EncryptionArg::Prefer) => EncryptionPolicy::Prefer,
            Some(EncryptionArg::Require) => EncryptionPolicy::Require,
        },
        transport: match args.transport {
            Some(TransportArg::Tcp) => TransportPolicy::Tcp,
            Some(TransportArg::Utp) => TransportPolicy::Utp,
            None | Some(TransportArg::Both) => TransportPolicy::Both,
        },
        dht: dht_options(args, mode, around),
        max_download_rate: args.max_download_rate.map(|rate| rate.0),
        max_upload_rate: args.max_upload_rate.map(|rate| rate.0),
        ip_filter: None,
        remedies: remedies(file_error(args)),
    }
}

/// What somebody at a shell can do about errors.
fn remedies(file_error: FileErrorAction) -> Remedies {
    let (start_again, after_room) = match file_error {
        FileErrorAction::Pause => ("send SIGUSR2", "it goes on by itself"),
        FileErrorAction::End => ("start again", "start again"),
    };
    Remedies {
        start_again,
        after_room,
        allocate_less: "use --preallocate sparse",
        shorten_path: "choose a shorter --basedir",
        overwrite: "give --overwrite",
        elsewhere: "choose another --basedir",
        change_port: "choose others with --port",
        change_address: "choose an address or an interface of this machine with --bind",
    }
}

/// What an error of the disk does: one that nobody waits for must not hang.
fn file_error(args: &Args) -> FileErrorAction {
    match args.file_error {
        Some(FileErrorArg::Pause) => FileErrorAction::Pause,
        Some(FileErrorArg::Exit) => FileErrorAction::End,
        None if leaves_when_complete(args) => FileErrorAction::End,
        None => FileErrorAction::Pause,
    }
}

/// Whether nothing is seeded.
fn leaves_when_complete(args: &Args) -> bool {
    args.no_seed || args.cat.is_some() || args.seed_time.is_some_and(|time| time.0.is_zero())
}

fn torrent_options(args: &Args, around: &Surroundings) -> TorrentOptions {
    TorrentOptions {
        basedir: args.basedir.clone(),
        state_dir: state_dir(args, around),
        state: match args.state {
            None | Some(StateArg::Started) => State::Started,
            Some(StateArg::Paused) => State::Paused,
            Some(StateArg::Stopped) => State::Stopped,
        },
        full_check: args.full_check,
        use_web_seeds: !args.no_webseeds,
        upload_slots: usize::MAX,
        preallocate: match args.preallocate {
            Some(Prealloc::None) => Preallocate::None,
            None | Some(Prealloc::Sparse) => Preallocate::Sparse,
            Some(Prealloc::Full) => Preallocate::Full,
        },
        overwrite: args.overwrite,
        priorities: Vec::new(),
        order: if args.sequential || args.cat.is_some() { Order::Sequential } else { Order::default() },
        no_seed: leaves_when_complete(args),
        seed_ratio: args.seed_ratio,
        seed_time: args.seed_time.map(|time| time.0),
        stall_timeout: args.stall_timeout.map(|time| time.0),
        file_error: Some(file_error(args)),
        trackers: Vec::new(),
        web_seeds: Vec::new(),
        peers: args.peer.clone(),
        choice: None,
        metadata_only: false,
        piece_cache: Vec::new(),
    }
}

fn severity(level: Level) -> Severity {
    match level {
        Level::Debug => Severity::Debug,
        Level::Info => Severity::Info,
        Level::Warning => Severity::Warning,
        Level::Critical => Severity::Critical,
        Level::Fatal => Severity::Fatal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn config(args: &[&str], around: &Surroundings) -> anyhow::Result<Config> {
        let line = ["btget"].iter().chain(args);
        Config::new(Args::try_parse_from(line)?, around)
    }

    fn terminal() -> Surroundings {
        Surroundings {
            stdout_terminal: true,
            stderr_terminal: true,
            home: Some("/home/x".into()),
            ..Default::default()
        }
    }

    #[test]
    fn without_options_the_defaults_of_the_man_page_hold() {
        let config = config(&["a.torrent", "-"], &terminal()).unwrap();
        assert_eq!(config.sources, [TorrentSource::Path("a.torrent".into()), TorrentSource::Stdin]);
        assert_eq!(config.mode, Mode::Transfer);
        assert_eq!((config.session.ports, config.session.max_peers), (vec![0], 200));
        assert_eq!((config.session.upload_slots, config.torrent.state), (8, State::Started));
        assert_eq!(config.torrent.basedir, PathBuf::from("."));
        assert_eq!(config.torrent.state_dir, Some("/home/x/.local/state/btget".into()));
        assert_eq!((config.progress, config.verbosity), (Progress::Bars, Verbosity::Normal));
        assert!(config.json.is_none() && config.color_stderr);
    }

    #[test]
    fn urls_are_told_from_paths_and_shown_without_their_password() {
        let given =
            ["http://x.test/a b.torrent", "HTTPS://me:secret@x.test/b", "http:/a", "./http://x", "1f://x/a"];
        let sources = config(&given, &terminal()).unwrap().sources;
        let urls = sources.iter().filter(|source| matches!(source, TorrentSource::Url(_))).count();
        assert_eq!(urls, 2, "{sources:?}");
        assert_eq!(sources[1].name(), "HTTPS://***@x.test/b");
        let refused = config(&["--hashcheck-only", given[1]], &terminal()).unwrap_err().to_string();
        assert!(refused.contains("opens no socket") && !refused.contains("secret"), "{refused}");
        for (wrong, words) in [
            ("ftp://me:secret@x/a", "http or https"),
            ("file:///home/x/a.torrent", "/home/x/a.torrent"),
            ("http://", "http or https"),
            ("http://me:secret@x.test:99999/a", "http or https"),
            ("https://x y/a", "http or https"),
        ] {
            let refused = config(&[wrong], &terminal()).unwrap_err().to_string();
            assert!(refused.contains(words) && !refused.contains("secret"), "{refused}");
        }
    }

    #[test]
    fn contradictions_are_refused_with_both_names() {
        for (line, first, second) in [
            ("--show --hashcheck-only", "--show", "--hashcheck-only"),
            ("--plan --hashcheck-only", "--plan", "--hashcheck-only"),
            ("--plan --show", "--plan", "--show"),
            ("--plan --cat 1", "--plan", "--cat"),
            ("--plan --save-torrent x", "--plan", "--save-torrent"),
            ("--hashcheck-only --state paused", "--hashcheck-only", "--state"),
            ("--hashcheck-only --preallocate full", "--hashcheck-only", "--preallocate"),
            ("--show --no-seed", "--show", "--no-seed"),
            ("--pieces 1", "--pieces", "--hashcheck-only"),
            ("--events debug", "--events", "--json"),
            ("- -", "'-'", "twice"),
        ] {
            let args: Vec<&str> = line.split(' ').chain(["x.torrent"]).collect();
            let message = config(&args, &terminal()).unwrap_err().to_string();
            assert!(message.contains(first) && message.contains(second), "{line}: {message}");
        }
    }

    #[test]
    fn the_last_of_what_contradicts_itself_wins() {
        let parsed = |line: &str| {
            let args: Vec<&str> = line.split(' ').chain(["x.torrent"]).collect();
            config(&args, &terminal()).unwrap()
        };
        let (first, second) =
            (parsed("--no-seed --seed-ratio 2"), parsed("--seed-ratio 2 --seed-time 1h --no-seed"));
        assert_eq!((first.torrent.no_seed, first.torrent.seed_ratio), (false, Some(2.0)));
        assert!(
            second.torrent.no_seed
                && second.torrent.seed_ratio.is_none()
                && second.torrent.seed_time.is_none()
        );
        assert!(parsed("--seed-time 0").torrent.no_seed);
        for (line, verbosity) in [
            ("-q -v", Verbosity::Verbose),
            ("-v -q", Verbosity::Quiet),
            ("-q -q", Verbosity::Quiet),
            ("-vv", Verbosity::Debug),
            ("-v -v", Verbosity::Debug),
        ] {
            assert_eq!(parsed(line).verbosity, verbosity, "{line}");
        }
        let both = parsed("--files 1 --files 2 --tracker http://a/announce --tracker http://b/announce");
        assert_eq!((both.files.len(), both.torrent.trackers.len()), (2, 2));
    }

    #[test]
    fn wrong_values_say_what_was_given_and_what_is_allowed() {
        for (option, value, allowed) in [
            ("--port", "70000", "e.g. 6952"),
            ("--max-upload-rate", "fast", "e.g. 500K"),
            ("--seed-time", "soon", "e.g. 90"),
            ("--state", "running", "started, paused, stopped"),
            ("--bind", "192.0.2.7:80", "e.g. 192.0.2.7"),
            ("--priority", "3", "e.g. 3=10"),
            ("--on-complete", "mail 'me", "a quote is not closed"),
            ("--on-error", " ", "e.g. 'notify-send done'"),
        ] {
            let message = config(&[option, value, "x.torrent"], &terminal()).unwrap_err().to_string();
            assert!([option, value, allowed].iter().all(|part| message.contains(part)), "{message}");
        }
    }

    #[test]
    fn a_proxy_is_a_url_or_that_of_the_environment_and_a_wrong_one_is_refused_without_its_password() {
        let proxy = |given: &str, set: Option<&str>| {
            let around = Surroundings { proxy: set.map(str::to_owned), ..terminal() };
            config(&["--proxy", given, "x.torrent"], &around)
                .map(|config| config.session.proxy.unwrap().to_string())
        };
        for (given, set, read) in [
            ("socks5://me:secret@p.example:9050", None, "socks5://p.example:9050"),
            ("http://[::1]:3128", Some("socks5://other"), "http://[::1]:3128"),
            ("env", Some("socks5h://me:secret@p.example"), "socks5://p.example:1080"),
            ("env", Some("p.example:3128"), "http://p.example:3128"),
        ] {
            assert_eq!(proxy(given, set).unwrap(), read);
        }
        let around = Surroundings { proxy: Some("socks5://p".to_owned()), ..terminal() };
        assert_eq!(config(&["x.torrent"], &around).unwrap().session.proxy, None);
        for (given, set, cause) in [
            ("p.example:1080", None, "does not say what"),
            ("socks4://me:secret@p:1", None, "version 5 alone"),
            ("https://me:secret@p:1", None, "TLS"),
            ("socks5://me:secret@p:99999", None, "host or port"),
            ("env", None, "names no proxy"),
            ("env", Some("ftp://me:secret@p"), "not known"),
        ] {
            let message = proxy(given, set).unwrap_err().to_string();
            assert!(message.contains("'--proxy <URL>'") && message.contains(cause), "{message}");
            assert!(message.contains("e.g.") || message.contains("set all_proxy"), "{message}");
            assert!(!message.contains("secret"), "{message}");
        }
        let by_utp =
            |given: &str| config(&["--proxy", given, "--transport", "utp", "x.torrent"], &terminal());
        assert!(by_utp("socks5://me:secret@p").is_ok());
        let message = by_utp("http://me:secret@p").unwrap_err().to_string();
        assert!(
            message.contains("'--proxy http://p:1080'") && message.contains("carries no UDP"),
            "{message}"
        );
    }

    #[test]
    fn trackers_stand_in_tiers_and_a_wrong_one_is_refused_without_its_password() {
        let trackers = |line: &[&str]| {
            config(&[line, &["x.torrent"]].concat(), &terminal()).map(|config| config.torrent.trackers)
        };
        let given =
            trackers(&["--tracker", "http://a/announce,UDP://b:1", "--tracker", "https://c/x?y=z"]).unwrap();
        assert_eq!(given, [vec!["http://a/announce", "udp://b:1"], vec!["https://c/x?y=z"]]);
        assert!(trackers(&[]).unwrap().is_empty());
        for wrong in [
            "ftp://a/",
            "a",
            "",
            "http://",
            "udp://a",
            "http://a/,",
            "http://a b/",
            "http://user:secret@a:99999/",
        ] {
            let message = trackers(&["--tracker", wrong]).unwrap_err().to_string();
            assert!(message.contains("'--tracker <URL>'") && message.contains("e.g. https://"), "{message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn colour_and_bars_follow_the_terminal_unless_told() {
        let pipe = Surroundings::default();
        let no_color = Surroundings { no_color: true, ..terminal() };
        let dumb = Surroundings { dumb: true, ..terminal() };
        for (args, around, progress, color) in [
            (&["x"][..], &terminal(), Progress::Bars, true),
            (&["x"], &pipe, Progress::Lines, false),
            (&["x"], &dumb, Progress::Lines, false),
            (&["x"], &no_color, Progress::Bars, false),
            (&["x", "-q"], &terminal(), Progress::None, true),
            (&["x", "-q", "--progress", "lines"], &terminal(), Progress::Lines, true),
            (&["x", "--color", "always", "--progress", "bars"], &pipe, Progress::Lines, true),
            (&["x", "--color", "always"], &no_color, Progress::Bars, true),
            (&["x", "--color", "never", "--progress", "none"], &terminal(), Progress::None, false),
        ] {
            let config = config(args, around).unwrap();
            assert_eq!((config.progress, config.color_stderr), (progress, color), "{args:?}");
        }
    }

    #[test]
    fn the_state_folder_follows_the_xdg_specification() {
        let around = Surroundings { xdg_state_home: Some("/state".into()), ..terminal() };
        assert_eq!(config(&["x"], &around).unwrap().torrent.state_dir, Some("/state/btget".into()));
        let relative = Surroundings { xdg_state_home: Some("state".into()), ..terminal() };
        assert_eq!(
            config(&["x"], &relative).unwrap().torrent.state_dir,
            Some("/home/x/.local/state/btget".into())
        );
        assert_eq!(config(&["x", "--state-dir", ""], &around).unwrap().torrent.state_dir, None);
        assert_eq!(config(&["x"], &Surroundings::default()).unwrap().torrent.state_dir, None);
    }
}
