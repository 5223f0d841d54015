//! The man page's sections that no option definition holds.
//!
//! Owns their text. The page itself and the completions are put together by `examples/generate.rs`.

/// `(heading, roff)` in the order of the page.
pub const SECTIONS: [(&str, &str); 9] = [
    ("BARS", BARS),
    ("SIGNALS", SIGNALS),
    ("EXIT STATUS", EXIT_STATUS),
    ("EVENTS", EVENTS),
    ("HOOKS", HOOKS),
    ("PRIVACY", PRIVACY),
    ("FILES", FILES),
    ("ENVIRONMENT", ENVIRONMENT),
    ("EXAMPLES", EXAMPLES),
];

const BARS: &str = r"The bar of a torrent is its bitfield, from the first piece to the last. Each cell stands for a run of
pieces; the higher it is filled, the more of them are there.
.TP
full blocks, \fB#\fR in ASCII
All pieces of the run that are wanted are there.
.TP
lower blocks, \fB. : \- = + *\fR in ASCII
Some are there. Yellow: some more are being fetched right now.
.TP
shades, \fB~\fR in ASCII
Without colour: being fetched right now.
.TP
middle dots, \fB_\fR in ASCII
Not wanted.
.PP
Beside it stand percent of what is wanted, rates down and up, peers, those of them that are seeds, the time left and
the state. Of a magnet link, as long as peers are being asked what it is, the state is metadata, and percent are
of these. Locales that are not UTF\-8 get the ASCII form. Where there are more torrents than rows, those are shown of
which something is to be seen, errors first, and a line says what the others do.";

const SIGNALS: &str = r"A torrent is
.B started
(makes and fills requests),
.B paused
(keeps its peers, makes and fills none) or
.B stopped
(no peers; the tracker has been told). Of many torrents no more download at the same time than
.B \-\-max\-downloads
says; the others are
.B waiting
(no peers, no announces; what is there of them is not sent to anybody either) and begin in the order given. One that is paused while it waits
keeps doing without peers until it is started and its turn comes.
.TP
.B SIGUSR1
Pause:
.B kill \-USR1 $(pidof btget)
.TP
.B SIGUSR2
Start, also after a disk was full:
.B kill \-USR2 $(pidof btget)
.TP
.BR SIGINT , \ SIGTERM , \ SIGHUP
Stop: no new work, finish and sync what is written, save resume data, tell the tracker (5 s at the most in all), exit.
Hooks that still run are told to end (SIGTERM) after as long. What is ignored at the start stays ignored: SIGHUP under
.BR nohup (1),
SIGINT of what a script starts with &.
.TP
.B The same again
Exit at once with 130; what is on disk is still consistent, and the next start checks what was under way.
Two within a quarter of a second are one:
.BR timeout (1)
sends two.";

const EXIT_STATUS: &str = r".TP
.B 0
Everything wanted is complete and verified, and seeded as asked.
.TP
.B 1
An error with no number of its own.
.TP
.B 2
Usage; also a
.B \-\-files
that matches nothing in what a magnet link turns out to be.
.TP
.BR 3 , \ 6 , \ 19
The .torrent at a URL: the server has none there; the network failed, or took longer than 30 s; the name of the host is not known.
.TP
.B 5
Gave up: no new data, or no metadata of a magnet link, for longer than
.BR \-\-stall\-timeout .
.TP
.B 7
Stopped, or checked, with wanted data missing (none of it corrupt).
.TP
.B 9
Disk full.
.TP
.B 11
Another btget writes to this path, or another torrent of this run owns it.
.TP
.B 13
A file that is not this torrent's stands in its place, or one where
.B \-\-create
is to write; see
.BR \-\-overwrite .
.TP
.B 17
Cannot read or write data, or they changed while
.B \-\-create
read them.
.TP
.BR 22 , \ 23 , \ 24
The .torrent at a URL: no sane HTTP answer, or one of more than 64 MiB; more than 5 redirects; not allowed in (401, 403).
.TP
.B 26
Not a valid .torrent, or it cannot be read; or the metadata of a magnet link match its hash and are none that btget can
use.
.TP
.B 27
Not a valid magnet link.
.TP
.B 32
.B \-\-hashcheck\-only
found data that are not the torrent's: corrupt, or in files that are longer than it says. What was never written,
a hole or a piece of zeros alone, is missing and not corrupt.
.TP
.B 130
Exited at once, by a second SIGINT, SIGTERM or SIGHUP.
.PP
.B \-\-plan
exits with 0 if a download can begin, else with what it would end with: 9, 11, 13 or 17.
.PP
With several causes the most serious wins: 2, 26, 27, 3, 24, 22, 23, 19, 6, 17, 9, 13, 11, 32, 1, 5, 7. The exit code of a hook that fails takes the place of all
of them. Any exit but 0 leaves a line on stderr that says why, also with
.BR \-q .
Of several torrents, one that cannot be read stops none of the others: the exit code is then 26, or 27 for a magnet
link.";

const EVENTS: &str = r"With
.B \-\-json
stdout is one JSON object a line and nothing else. Each has
.B v
(1; it grows when a key changes its meaning, not when one is added),
.B time
(RFC 3339, UTC),
.BR severity ,
.B event
and
.B message
(plain English), and
.B torrent
(its info hash, 40 hex digits) where it is about one. Piece lists are ranges from 0, as
.BR [\(dq0\-4\(dq,\(dq9\(dq] ;
sizes are bytes, rates bytes a second, times seconds. The further keys:
@EVENTS@
.PP
.B fatal
means that this torrent cannot go on by itself, not that btget ends. A reader that is slow or goes away never
holds up the transfer; what it missed is counted by
.BR events_dropped .
.B summary
is always the last event of a torrent, whatever
.B \-\-events
says, also of one that could not be begun (without
.B torrent
then, if it could not be read). While it is not known what a magnet link is, it has no pieces, and
.B wanted
and
.B left
are the size that the link gives (xl), or 1. Only a second SIGINT, SIGTERM or SIGHUP leaves no time for it.";

const HOOKS: &str = r#".B \-\-on\-complete
and
.B \-\-on\-error
run a program for each torrent: the first as soon as everything wanted is there and verified (also when it was there
already), the second when the torrent is paused by an error and when it ends with another exit code than 0. With
.B \-\-hashcheck\-only
one of them runs after the check.
.PP
The command is split into words as a shell would, once, and run without one: nothing that a torrent says is ever read
as a command. Write
.B "sh \-c '...'"
for a shell. Standard input is the torrent's
.B summary
event, as it stands at that moment, on one line; what the program prints goes to standard error. In its environment are:
.TP
.B BTGET_EVENT
.B complete
or
.BR error .
.TP
.BR BTGET_TORRENT , \ BTGET_NAME
The info hash, and the name with control characters escaped.
.TP
.BR BTGET_PATH , \ BTGET_BASEDIR
The torrent's folder, or its one file, and the folder that it is in; absolute. While it is not known what a magnet link is,
.B BTGET_PATH
is not set, and
.B BTGET_NAME
is the name that the link gives, or the info hash.
.TP
.BR BTGET_EXIT_CODE , \ BTGET_REASON
The exit code of the torrent, were it to end now, and why.
.TP
.BR BTGET_DONE , \ BTGET_WANTED , \ BTGET_LEFT , \ BTGET_DOWNLOADED , \ BTGET_UPLOADED
Bytes. While it is not known what a magnet link is,
.BR BTGET_WANTED \ and \ BTGET_LEFT
are empty.
.PP
Hooks run beside the transfer, and btget waits for them before it exits. One that takes longer than 10 minutes is
killed. Of a hook that fails the exit code becomes that of btget: 127 if there is no such program, 126 if it cannot be
run, 124 if it took too long, 128 and the number of the signal if one killed it."#;

const PRIVACY: &str = r"Whoever takes part in a torrent is seen by others: trackers and peers learn the address of this machine, the port
it listens on, the torrent, and how much of it is there. Web seeds learn the address and what is fetched from them
.RB ( \-\-no\-webseeds
asks none). Three more ways tell of it. All are on, and none is used for
private torrents (BEP 27), which take peers from their own trackers, from
.B \-\-peer
and from calls that come in.
.TP
.B Peer exchange
(BEP 11) Each peer of a torrent is told the addresses of the other peers of the same torrent that btget is connected to and that can
be called, and which of these are seeds; it tells others of this machine in the same way. At most once a minute.
.B \-\-no\-pex
ends both directions.
.TP
.B The DHT
(BEP 5) A table of which machines take part in which torrents, which its nodes keep for one another. btget is one of them, by UDP at the port
that it listens on, as long as it has a torrent that is not private and not stopped. It asks nodes for peers of each torrent, from every minute to every quarter of an hour, and tells
the eight closest ones to its hash every 25 minutes that it takes part; nodes that it asks learn the info hash and the address of this machine. It answers
other nodes within bounds, and keeps for them what they have to tell.
.B \-\-no\-dht
ends all of that.
.TP
.B Local discovery
(BEP 14) Everybody on the local network can hear the info hash of each torrent that is not stopped, and the port: by packets to
239.192.152.143 and ff15::efc0:988f, port 6771, that no router passes on; twice at the start, then every five minutes. They leave from all
interfaces but loopback, or from that of
.BR \-\-bind .
.B \-\-no\-lsd
neither sends nor hears them.
.PP
With
.B \-\-proxy
trackers, peers, web seeds and nodes of the DHT learn the address of the proxy in place of this machine's, and the proxy learns whom btget speaks to.
There is no local discovery and no port mapping then. Of a SOCKS5 proxy it is asked to carry UDP (UDP ASSOCIATE): where it does, peers are called by uTP as
well, those that call where it sends from are let in if it passes them on, and the DHT is asked, over IPv4 and IPv6, but neither answered nor told anything; where it does
not, all that is off, and it is said once. Nobody can call by TCP: what SOCKS5 has for that (BIND) lets in one connection, from one peer that is known before.
.PP
As long as a torrent is not stopped, be it private or not, the routers of this machine's networks are asked to let in peers that call: each router
by PCP or NAT\-PMP (UDP port 5351), and gateways of UPnP, which are searched by packets to 239.255.255.250, port 1900, on the networks by which the
world is reached, or on that of
.BR \-\-bind .
They hear the port and the word btget, and nothing of torrents. A mapping lasts for an hour unless it is renewed, and is removed at the end. Of those that answer a search, only the host that
has answered is contacted, whatever it says.
.B \-\-no\-port\-map
asks none; nor is any asked for
.BR \-\-show ,
and with a
.B \-\-bind
to a loopback address.
.PP
A magnet link does not say whether its torrent is private. Until peers have said what it is, all three are used; if it
turns out to be private, none is from that moment, and peers found by them are called no more. For a torrent that may be private, give the three
options, or the .torrent.
.B \-\-show
of a magnet link takes part in the torrent like this for as long as it asks, but answers and announces nothing in the DHT (BEP 43); of a .torrent it opens no
socket.";

const FILES: &str = r".TP
.I DIR
(\fB\-\-basedir\fR) A single\-file torrent is one file in it; any other has a folder of its own.
Where the file system refuses characters of a name (: and ? on FAT, exFAT and NTFS, and others), _ stands for them.
.TP
.I DIR/.INFOHASH.parts
Bytes of files that are not wanted, from pieces that they share with files that are. They move into their files
once these are wanted; the part file goes when nothing needs it. Without it those pieces are fetched again.
.TP
.I $XDG_STATE_HOME/btget
Resume data, one small file for each torrent and folder, and INFOHASH.torrent for each magnet link: what peers have said that
it is, so that the same link needs nobody for it the next time. Resume data vouch for a file as long as its size, time and inode are what they
were when btget last wrote or checked it; on FAT, exFAT, SMB and FUSE, which number their files anew now and then, as long as
size and time are. All of it may be deleted at any time: the next start then reads the data again, and asks peers again what a
magnet link is.
.TP
.IR $XDG_STATE_HOME/btget/dht4 , \ dht6
Nodes of the DHT that answered, and the id that btget has among them. One btget at a time keeps them; one that runs beside it is another node. They may
be deleted at any time.
.TP
.I /tmp/btget\-UID
While btget runs, the paths that it writes to, so that no other btget of the same user does (exit code 11). What a killed one leaves
there is of no account.";

const ENVIRONMENT: &str = r".TP
.B XDG_STATE_HOME
Where resume data live; ~/.local/state without it.
.TP
.B NO_COLOR
Set and not empty: no colour, unless
.B \-\-color always
says so.
.TP
.BR LC_ALL , \ LC_CTYPE , \ LANG
Whether the terminal takes UTF\-8.
.TP
.B TERM
Not set, or
.BR dumb :
progress is lines.
.TP
.BR http_proxy , \ https_proxy , \ all_proxy , \ no_proxy
For HTTP and HTTPS trackers, web seeds and URLs of .torrents, as
.BR curl (1)
reads them; never for loopback addresses. With
.B \-\-proxy
they do not count; with
.B \-\-proxy env
one of them is for everything, whatever
.B no_proxy
says.
.TP
.B SSL_CERT_FILE
Certificates (PEM) of the authorities that are trusted, in place of the bundled ones (Mozilla's): for HTTPS trackers, web seeds
and URLs of .torrents.";

const EXAMPLES: &str = r"Download into ./storage, then seed until Ctrl\-C:
.PP
.nf
    btget some.torrent \-\-basedir ./storage
.fi
.PP
Download and leave; give up when nothing comes for ten minutes:
.PP
.nf
    btget some.torrent \-d ./storage \-\-no\-seed \-\-stall\-timeout 10m
.fi
.PP
Go on only if every byte is right:
.PP
.nf
    btget some.torrent \-d ./storage \-\-hashcheck\-only && publish ./storage
.fi
.PP
What it would do, and whether the disk has room for it:
.PP
.nf
    btget some.torrent \-d ./storage \-\-plan
.fi
.PP
Watch a file while it comes; the number is that of
.BR \-\-show :
.PP
.nf
    btget some.torrent \-\-cat 2 | mpv \-
.fi
.PP
A magnet link, in quotes, for a shell would take & for the end of the command; and just what it is, written as a .torrent:
.PP
.nf
    btget 'magnet:?xt=urn:btih:...' \-d ./storage \-\-no\-seed
    btget \-\-show 'magnet:?xt=urn:btih:...' \-\-save\-torrent some.torrent
.fi
.PP
Make a torrent of a folder; its magnet link is printed:
.PP
.nf
    btget \-\-create ./photos \-\-tracker https://tracker.example/announce
.fi
.PP
Bad files of a mirror, by a program:
.PP
.nf
    btget some.torrent \-d ./storage \-\-hashcheck\-only \-\-json |
        jq \-r 'select(.event == \(dqfile_report\(dq and .status != \(dqok\(dq) | .path'
.fi
.PP
Tell somebody when it is there, and act on what goes wrong:
.PP
.nf
    btget some.torrent \-d ./storage \-\-on\-complete 'notify\-send \(dqIt is there\(dq' \e
        \-\-on\-error \(dqsh \-c 'jq \-r .message | mail \-s trouble me'\(dq
.fi
.PP
Pause the download over lunch:
.PP
.nf
    kill \-USR1 $(pidof btget); sleep 3600; kill \-USR2 $(pidof btget)
.fi";

/// [`SECTIONS`]' text of `EVENTS`, with the table of events in its place.
pub fn events_section() -> String {
    let mut table = String::new();
    for row in crate::event::TABLE {
        table.push_str(&format!(
            "\n.TP\n.BR {} \" ({})\"\n{} Keys: {}.",
            row.event, row.severity, row.meaning, row.keys
        ));
    }
    EVENTS.replace("\n@EVENTS@", &table)
}
