//! The options, as people type them: the one definition behind parsing, `--help`, the man page and
//! the completions.
//!
//! Owns names, help and what one value may look like. What values mean together is decided in
//! [`crate::cli::options::config`].

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Parser, ValueHint};

use crate::cli::options::brief::{AFTER_HELP, AFTER_LONG_HELP};
pub use crate::cli::options::choices::{
    EncryptionArg, FileErrorArg, Level, Prealloc, ProgressArg, StateArg, TransportArg, When,
};
use crate::cli::options::making::CreateArgs;
use crate::cli::options::select::Selector;
use crate::cli::options::values::{self, Amount, Bootstrap, Dur, PieceSelection, Ports, Program, Weighted};
use crate::client::Bind;
use crate::metainfo::PeerAddress;

/// Download a torrent (file, URL or magnet link), verify it, and seed it.
///
/// Each TORRENT is hash-checked against what lies below the base folder; what is missing is
/// downloaded, verified piece by piece and written; then it is seeded until btget is stopped or
/// until a limit you set is reached. Several torrents share one listener and one set of limits. Of an
/// option that is given twice the last counts; lists (--files, --priority, --tracker, --webseed,
/// --peer) add up.
#[derive(Parser, Debug)]
#[command(
    name = "btget",
    version,
    max_term_width = 100,
    args_override_self = true,
    disable_help_flag = true,
    disable_version_flag = true,
    after_help = AFTER_HELP,
    after_long_help = AFTER_LONG_HELP
)]
pub struct Args {
    /// .torrent files, their URLs, and magnet links; `-` reads a .torrent from standard input
    ///
    /// A .torrent at an http or https URL is fetched first: 64 MiB at the most, in 30 s and by 5 redirects.
    ///
    /// A magnet link needs quotes in a shell, which would read its `&` as the end of the command. What stands
    /// before the first `&` still names the torrent (`magnet:?xt=urn:btih:...`), but the trackers behind it
    /// are lost.
    ///
    /// Peers are asked first what the torrent is (its metadata); from there it goes on as a .torrent does.
    /// The metadata are kept with the resume data, so that the same link needs nobody for them the next time.
    /// Peers are found by the trackers and peers of the link, by --tracker and --peer, on the local network and
    /// in the DHT.
    #[arg(value_name = "TORRENT", required_unless_present = "create", value_hint = ValueHint::FilePath)]
    pub torrents: Vec<PathBuf>,

    /// Where data lives
    ///
    /// A multi-file torrent gets its own folder below it. What already lies there is checked and used.
    #[arg(short = 'd', long, value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath,
          help_heading = "Data")]
    pub basedir: PathBuf,

    /// How files are made: none, sparse or full [default: sparse]
    ///
    /// `none` lets files grow, `sparse` gives them their size and blocks as data come (on ext4 16 MiB at a
    /// time, if the disk has room for all), `full` reserves all blocks first and refuses before it starts
    /// when the disk is too small (exit 9).
    #[arg(long, value_name = "HOW", value_enum, hide_possible_values = true, help_heading = "Data")]
    pub preallocate: Option<Prealloc>,

    /// What an error of the disk does: pause or exit [default: exit with --no-seed, else pause]
    ///
    /// Errors are: disk full, no permission, a read-only file system, something else in a file's place.
    /// `pause` keeps the peers and goes on at SIGUSR2; after a full disk also by itself, within half a
    /// minute after there is room for what is missing. `exit` ends this torrent (exit 9 or 17); what is
    /// verified is kept, and other torrents go on.
    #[arg(long, value_name = "HOW", value_enum, hide_possible_values = true, help_heading = "Data")]
    pub file_error: Option<FileErrorArg>,

    /// Write over files that nothing shows to be the torrent's; cut files that are too long
    ///
    /// Without it, a file in a torrent's place that is of another length than the torrent says, in a folder
    /// that btget does not know the torrent from and where no piece of it is right, is left alone, and btget
    /// exits with 13. A file that is too long keeps its tail unless btget comes to write to it.
    #[arg(long, conflicts_with = "show", help_heading = "Data")]
    pub overwrite: bool,

    /// Where resume data live [default: $XDG_STATE_HOME/btget]
    ///
    /// With resume data, the next start reads again only what changed. The metadata of magnet links are kept
    /// here too. Without $XDG_STATE_HOME it is ~/.local/state/btget. An empty DIR ('') keeps none.
    #[arg(long, value_name = "DIR", value_parser = OsStringValueParser::new().map(PathBuf::from),
          value_hint = ValueHint::DirPath, help_heading = "Data")]
    pub state_dir: Option<PathBuf>,

    /// Only these files: numbers, ranges, globs
    ///
    /// Repeatable. Numbers are those that --show prints, from 1: `3`, `1,4-7`. Anything else is a glob (`*`,
    /// `?`, `[a-z]`, and `**` across folders) or a path. Without a slash it is compared with each file or
    /// folder name, with one with the path below the torrent's folder; a folder stands for all that is in it.
    /// One that matches nothing is an error (exit 2), of a magnet link as soon as it is known what it is;
    /// what the link itself selects (so=) does not count then.
    #[arg(long, value_name = "LIST", value_parser = values::selector, help_heading = "Files")]
    pub files: Vec<Selector>,

    /// Weight of files, as FILE=N; 0 = not wanted; repeatable
    ///
    /// Every file weighs 1 unless told otherwise; pieces of heavier files are likelier to come
    /// first, those of far heavier ones do. FILE is as in --files; the last one that matches counts.
    #[arg(long, value_name = "FILE=N", value_parser = values::weighted, help_heading = "Files")]
    pub priority: Vec<Weighted>,

    /// Pieces in order, from the first one that is missing
    ///
    /// All peers keep a window of 64 MiB full that begins there, so that a file can be used while it grows; those
    /// that have nothing of it to give are asked for the rarest pieces. Other peers are served better by the
    /// order without it, and in the end so is whoever waits for all of it.
    #[arg(long, conflicts_with = "show", help_heading = "Files")]
    pub sequential: bool,

    /// Write one file to standard output, as it comes
    ///
    /// In order, each byte as soon as its piece is verified; what is there already is verified and written at
    /// once. FILE is as in --files, and must be one file. Implies --sequential and only that file; its data are
    /// kept below the base folder as always. btget leaves once all is written, and with exit code 0 when the
    /// reader goes away (`| head`). A reader that is slow does not hold up the download.
    #[arg(long, value_name = "FILE", value_parser = values::selector,
          conflicts_with_all = ["show", "hashcheck_only", "json", "files", "priority", "seed_ratio", "seed_time"],
          help_heading = "Files")]
    pub cat: Option<Selector>,

    /// Verify what is there, report, exit
    ///
    /// Writes nothing, opens no socket, and tells by its exit code what is wrong: 0 if every byte that is
    /// wanted is right, 7 if some are missing, 32 if some are not the torrent's. A magnet link can be checked
    /// once an earlier run has kept what it is.
    #[arg(long, conflicts_with = "show", help_heading = "Checking")]
    pub hashcheck_only: bool,

    /// Read every byte again, whatever the resume data vouch for
    #[arg(long, conflicts_with = "show", help_heading = "Checking")]
    pub full_check: bool,

    /// Check just these pieces, from 0: 17 or 1-5,34-56
    #[arg(long, value_name = "LIST", value_parser = values::pieces, requires = "hashcheck_only",
          help_heading = "Checking")]
    pub pieces: Option<PieceSelection>,

    /// State to begin with: started, paused or stopped [default: started]
    ///
    /// `paused` keeps peers but moves no data, `stopped` has no peers at all. SIGUSR2 starts.
    #[arg(long, value_name = "STATE", value_enum, hide_possible_values = true, help_heading = "Transfer")]
    pub state: Option<StateArg>,

    /// Leave as soon as everything wanted is there
    #[arg(long, overrides_with_all = ["seed_ratio", "seed_time"], help_heading = "Transfer")]
    pub no_seed: bool,

    /// Leave at this ratio of uploaded / wanted size
    ///
    /// For example 1.5.
    #[arg(long, value_name = "R", value_parser = values::ratio, overrides_with = "no_seed", help_heading = "Transfer")]
    pub seed_ratio: Option<f64>,

    /// Leave after seeding for so long, e.g. 90s, 10m, 2h, 1d
    ///
    /// With --seed-ratio as well, whichever is reached first. With neither, btget seeds until it is
    /// stopped. 0 is --no-seed.
    #[arg(long, value_name = "DUR", value_parser = values::duration_or_none, overrides_with = "no_seed", help_heading = "Transfer")]
    pub seed_time: Option<Dur>,

    /// Give up when nothing came for so long (exit 5)
    ///
    /// For example 90s, 10m, 2h. Time in which nobody says what a magnet link is counts, with
    /// --show too.
    #[arg(long, value_name = "DUR", value_parser = values::duration, help_heading = "Transfer")]
    pub stall_timeout: Option<Dur>,

    /// Torrents that download at the same time
    ///
    /// The others wait, in the order given: they call nobody, announce nothing and send nothing of what they have. One
    /// that gets no data for a minute goes on, but does not count, so that the next begins. Hash checks and seeds do not count, and
    /// time spent waiting is none for --stall-timeout.
    #[arg(long, value_name = "N", default_value = "8", value_parser = values::max_downloads, help_heading = "Transfer")]
    pub max_downloads: usize,

    /// Ports to listen on, in order [default: any]
    ///
    /// The first that is free is taken, e.g. of 6952,6881-6889,0. 0 is whichever the system picks.
    #[arg(short, long, value_name = "LIST", value_parser = values::ports, help_heading = "Network")]
    pub port: Option<Ports>,

    /// Local address or interface [default: any]
    ///
    /// It holds for all connections and packets: peers, HTTP and UDP trackers, web seeds, proxies, redirects, the DHT
    /// and local discovery, and where peers reach btget. With an interface, e.g. --bind tun0, nothing leaves by
    /// another one. With an address it is the family of the address (IPv4 or IPv6) alone that is used, and which interface
    /// packets take is for the system's routes, e.g. `ip rule add from ADDR table 7`. Names are looked up as the
    /// system does.
    #[arg(long, value_name = "ADDR|INTERFACE", value_parser = values::bind, help_heading = "Network")]
    pub bind: Option<Bind>,

    /// A proxy for everything: socks5://[user:pass@]host:port, http://..., or env
    ///
    /// Peers, trackers, web seeds and a .torrent by its URL are reached through it, and nothing goes past it: names are
    /// looked up by the proxy, nobody can call by TCP, and the local network is not spoken to. uTP, the DHT and UDP trackers go
    /// through a SOCKS5 proxy that carries UDP, else they are off. While the proxy does not work, everything waits.
    /// `env` takes the URL from all_proxy, https_proxy or http_proxy; without --proxy these hold for HTTP trackers and
    /// web seeds alone. Of http:// tunnels are asked for (CONNECT), to any port. A name or password is percent-encoded
    /// where it has a / or an @; the port is 1080 if none is given.
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url, help_heading = "Network")]
    pub proxy: Option<String>,

    /// A further tracker for every torrent; repeatable
    ///
    /// http, https or udp. Each use of the option is a tier of its own, asked after the torrent's own ones,
    /// which is when none of these has answered with peers; URLs with commas between them are one tier (a
    /// comma in a URL is written %2C). It may lead to this machine or the local network, which trackers of a
    /// torrent may do for an announce only. Private torrents use their own trackers alone.
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url, help_heading = "Network")]
    pub tracker: Vec<String>,

    /// A further web seed for every torrent; repeatable
    ///
    /// http or https: a server that has the torrent's files (BEP 19). If URL ends in a slash, the name of the torrent and the paths of
    /// its files follow; a torrent of one file can be given by a complete URL. User name and password are sent to its host alone. It may lead
    /// to this machine or the local network, which web seeds of a torrent may do only without a query.
    #[arg(long, value_name = "URL", conflicts_with = "no_webseeds", value_hint = ValueHint::Url, help_heading = "Network")]
    pub webseed: Vec<String>,

    /// No data from web seeds, only from peers
    ///
    /// Without it, those of the torrent (url-list, httpseeds) and of the magnet link (ws=) are asked beside the peers; a download needs
    /// nobody else.
    #[arg(long, help_heading = "Network")]
    pub no_webseeds: bool,

    /// A peer to call, for every torrent; repeatable
    ///
    /// HOST is a name or an address, e.g. seed.example.org:6881, 192.0.2.1:6881 or [2001:db8::1]:6881.
    /// Private torrents call it too.
    #[arg(long, value_name = "HOST:PORT", help_heading = "Network")]
    pub peer: Vec<PeerAddress>,

    /// No peer exchange: peers are told of no others, and not heard about others
    ///
    /// Without it, the peers of a torrent that is not private tell one another whom they are connected to
    /// (BEP 11), and have two of them meet that nobody can call (BEP 55), where peers are reached by uTP.
    #[arg(long, help_heading = "Network")]
    pub no_pex: bool,

    /// No search for peers on the local network
    ///
    /// Without it, torrents that are not private are announced there by multicast (BEP 14), on all interfaces
    /// but loopback, or on that of --bind. See PRIVACY in the man page.
    #[arg(long, help_heading = "Network")]
    pub no_lsd: bool,

    /// No port mapping: routers are not asked to let in peers that call
    ///
    /// Without it, as long as a torrent is not stopped, the routers of this machine's networks are asked to (UPnP, NAT-PMP,
    /// PCP), and asked to forget it at the end; not with a --bind to a loopback address. See PRIVACY in the man page.
    #[arg(long, help_heading = "Network")]
    pub no_port_map: bool,

    /// Encrypted connections with peers: off, allow, prefer or require [default: allow]
    ///
    /// `allow` calls in plaintext, which is quickest, and encrypted if a peer closes or is silent then; `prefer` calls
    /// encrypted, and in plaintext if that fails; both take whoever calls. `require` is RC4 in both directions or
    /// nothing, `off` is never. It hides from others what is spoken (MSE/PE), and keeps nobody out: who knows the
    /// torrent can take part.
    #[arg(long, value_name = "HOW", value_enum, hide_possible_values = true, help_heading = "Network")]
    pub encryption: Option<EncryptionArg>,

    /// A block list: peers and DHT nodes at these addresses are refused; repeatable
    ///
    /// They are neither called nor let in, whoever names them, nor asked or answered in the DHT; trackers and web seeds are not looked up
    /// in it. FILE holds lines of p2p (name:192.0.2.0-192.0.2.255), dat (192.0.2.0 - 192.0.2.255 , 000 , name, of which a level
    /// above 127 blocks nothing), ranges, CIDR (2001:db8::/32) or single addresses, packed with gzip or not; #, ; and // begin comments. Lines that are none of
    /// this are passed over, and counted. At SIGUSR2 a file that has changed is read again, and peers that it refuses are closed.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Network")]
    pub ip_filter: Vec<PathBuf>,

    /// How peers are reached: tcp, utp or both [default: both]
    ///
    /// uTP (BEP 29) goes by UDP at the port of --port, gives way to whatever else is on the line, and reaches peers behind
    /// address translation that TCP does not reach, by way of a peer that knows both of us where it must (BEP 55; see --no-pex). With `both`, a peer is called by TCP, and by uTP as well if it has not answered
    /// in half a second; whichever answers first is used. Through a proxy that carries no UDP it is TCP.
    #[arg(long, value_name = "HOW", value_enum, hide_possible_values = true, help_heading = "Network")]
    pub transport: Option<TransportArg>,

    /// No DHT: peers are not looked for in the distributed hash table
    ///
    /// Without it, peers of torrents that are not private are looked for there, by UDP at the port of --port, and
    /// btget answers other nodes of it. The nodes that it knows are kept with the resume data. See PRIVACY in the
    /// man page.
    #[arg(long, conflicts_with = "dht_bootstrap", help_heading = "Network")]
    pub no_dht: bool,

    /// A node to begin with in the DHT, or none; repeatable [default: some well-known ones]
    ///
    /// They are asked only if no others are known: those that an earlier run has kept, those of the torrent, and
    /// those of its peers. `none` is for these alone, as is a --bind to a loopback address.
    #[arg(long, value_name = "HOST:PORT", value_parser = values::bootstrap, help_heading = "Network")]
    pub dht_bootstrap: Vec<Bootstrap>,

    /// Connections, all torrents together
    ///
    /// Of a torrent half of as many, and 20 at the least, may be with peers that it has called; the rest is for those who call.
    #[arg(long, value_name = "N", default_value = "200", value_parser = values::max_peers, help_heading = "Network")]
    pub max_peers: usize,

    /// Peers that are sent data at the same time
    ///
    /// All torrents together: their peers are compared. There are more as long as more of them bring more, up to eight times as many: while the
    /// uplink, or --max-upload-rate, is not used up.
    #[arg(long, value_name = "N", default_value = "8", value_parser = values::upload_slots, help_heading = "Network")]
    pub upload_slots: usize,

    /// Bytes a second: 500K, 2M [default: no limit]
    ///
    /// All torrents together, from peers and web seeds. Peers are asked for no more than the limit lets in.
    /// Over 10 s it holds within 5 %, and no second has more than 1.3 times as much; by uTP that takes a limit
    /// of 20K at the least.
    #[arg(long, value_name = "RATE", value_parser = values::rate, help_heading = "Network")]
    pub max_download_rate: Option<Amount>,

    /// Bytes a second: 500K, 2M [default: no limit]
    ///
    /// All torrents together, as precisely as --max-download-rate.
    #[arg(long, value_name = "RATE", value_parser = values::rate, help_heading = "Network")]
    pub max_upload_rate: Option<Amount>,

    /// Run CMD when everything wanted is there and verified
    ///
    /// Also when it was there already. CMD is split into words as a shell would, and run without one; for a
    /// shell, say so: "sh -c '...'". It gets the torrent's summary event as JSON on its standard input, and
    /// BTGET_* in its environment, see HOOKS in the man page. If it fails, its exit code becomes that of
    /// btget. It may take 10 minutes, then it is killed; after a signal has said stop it has 5 s, then it is
    /// told to end (SIGTERM).
    #[arg(long, value_name = "CMD", value_parser = values::program, conflicts_with = "show",
          value_hint = ValueHint::CommandString, help_heading = "Hooks")]
    pub on_complete: Option<Program>,

    /// Run CMD when a torrent fails
    ///
    /// That is, when an error (disk full) pauses it, and when it ends with another exit code than 0.
    /// Otherwise as --on-complete.
    #[arg(long, value_name = "CMD", value_parser = values::program, conflicts_with = "show",
          value_hint = ValueHint::CommandString, help_heading = "Hooks")]
    pub on_error: Option<Program>,

    /// Making torrents.
    #[command(flatten)]
    pub making: CreateArgs,

    /// Print what the torrent holds, and exit
    ///
    /// Of a magnet link, peers are asked for that, and for no data; nothing is kept (see --save-torrent).
    #[arg(long, help_heading = "Output")]
    pub show: bool,

    /// Say what would be done, and do nothing of it
    ///
    /// Added to the options of a download: what is there, what is missing, bytes to fetch, room on the disk
    /// against what will be taken, names that are changed and why, what stands in the way, files that would be
    /// cut, the part file, trackers, web seeds. Reads what a check would, and nothing that resume data vouch for;
    /// writes nothing and opens no socket, but of a magnet link peers are asked what it is. Exit code 0: it can
    /// begin; 9: the disk lacks room; 11, 13, 17: as it would end.
    #[arg(long, conflicts_with_all = ["show", "hashcheck_only", "cat", "save_torrent"], help_heading = "Output")]
    pub plan: bool,

    /// Write the .torrent to FILE, that of a magnet link once peers have said what it is
    ///
    /// With the trackers and web seeds of the link; of a URL as it was fetched. It goes with a download and with --show. A FILE that
    /// is there is written over; `-` is standard output.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Output")]
    pub save_torrent: Option<PathBuf>,

    /// Write events to stdout, a JSON object a line
    ///
    /// And nothing else. With --show, --plan and --create, one JSON object a torrent. See EVENTS in the man page. A reader that stalls or
    /// goes away never holds up the transfer.
    #[arg(long, help_heading = "Output")]
    pub json: bool,

    /// Least severity for --json: debug, info, warning, critical, fatal [default: info]
    #[arg(
        long,
        value_name = "LEVEL",
        value_enum,
        hide_possible_values = true,
        requires = "json",
        help_heading = "Output"
    )]
    pub events: Option<Level>,

    /// Progress on stderr: auto, bars, lines or none
    ///
    /// `auto` draws bars on a terminal and writes a line every 10 s elsewhere, every minute while nothing
    /// changes; with --json it shows nothing, and only errors are said. The bar is the torrent's bitfield,
    /// see BARS in the man page.
    #[arg(
        long,
        value_name = "HOW",
        value_enum,
        hide_possible_values = true,
        default_value = "auto",
        help_heading = "Output"
    )]
    pub progress: ProgressArg,

    /// Say errors only, and why it ended if not well
    ///
    /// No progress unless --progress asks for it. A check reports just the files that are not as they should
    /// be. A file that is complete and longer than the torrent says is warned of.
    #[arg(short, long, overrides_with = "verbose", help_heading = "Output")]
    pub quiet: bool,

    /// Say more: -v what happens, -vv every step
    #[arg(short, long, action = ArgAction::Count, overrides_with = "quiet", help_heading = "Output")]
    pub verbose: u8,

    /// Colour: auto, always or never; NO_COLOR is honoured
    #[arg(
        long,
        value_name = "WHEN",
        value_enum,
        hide_possible_values = true,
        default_value = "auto",
        help_heading = "Output"
    )]
    pub color: When,

    /// Print help: -h in short, --help in full
    #[arg(short, long, action = ArgAction::Help, help_heading = "Output")]
    help: Option<bool>,

    /// Print the version
    #[arg(short = 'V', long, action = ArgAction::Version, help_heading = "Output")]
    version: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_option_has_help_and_a_heading() {
        for arg in Args::command().get_opts() {
            assert!(arg.get_help().is_some_and(|help| !help.to_string().is_empty()), "{arg}");
            assert!(arg.get_help_heading().is_some(), "{arg}");
        }
    }
}
