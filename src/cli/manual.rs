//! The man page's sections that no option definition holds.
//!
//! Owns their text. The page itself and the completions are put together by `examples/generate.rs`.

/// `(heading, roff)` in the order of the page.
pub const SECTIONS: [(&str, &str); 8] = [
    ("BARS", BARS),
    ("SIGNALS", SIGNALS),
    ("EXIT STATUS", EXIT_STATUS),
    ("EVENTS", EVENTS),
    ("HOOKS", HOOKS),
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
the state. Locales that are not UTF\-8 get the ASCII form. Where there are more torrents than rows, those are shown of
which something is to be seen, errors first, and a line says what the others do.";

const SIGNALS: &str = r"A torrent is
.B started
(makes and fills requests),
.B paused
(keeps its peers, makes and fills none) or
.B stopped
(no peers; the tracker has been told).
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
Usage.
.TP
.B 5
Gave up: no new data for longer than
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
A file that is not this torrent's stands in its place; see
.BR \-\-overwrite .
.TP
.B 17
Cannot read or write data.
.TP
.B 26
Not a valid .torrent, or it cannot be read.
.TP
.B 32
.B \-\-hashcheck\-only
found data that are not the torrent's: corrupt, or in files that are longer than it says. What was never written,
a hole or a piece of zeros alone, is missing and not corrupt.
.TP
.B 130
Exited at once, by a second SIGINT, SIGTERM or SIGHUP.
.PP
With several causes the most serious wins: 17, 9, 13, 11, 32, 7. The exit code of a hook that fails takes the place of all
of them. Any exit but 0 leaves a line on stderr that says why, also with
.BR \-q .
Of several torrents, one that cannot be read stops none of the others: the exit code is then 26.";

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
(40 hex digits) where it is about one. Piece lists are ranges from 0, as
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
then, if it could not be read). Only a second SIGINT, SIGTERM or SIGHUP leaves no time for it.";

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
The torrent's folder, or its one file, and the folder that it is in; absolute.
.TP
.BR BTGET_EXIT_CODE , \ BTGET_REASON
The exit code of the torrent, were it to end now, and why.
.TP
.BR BTGET_DONE , \ BTGET_WANTED , \ BTGET_LEFT , \ BTGET_DOWNLOADED , \ BTGET_UPLOADED
Bytes.
.PP
Hooks run beside the transfer, and btget waits for them before it exits. One that takes longer than 10 minutes is
killed. Of a hook that fails the exit code becomes that of btget: 127 if there is no such program, 126 if it cannot be
run, 124 if it took too long, 128 and the number of the signal if one killed it."#;

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
Resume data, one small file for each torrent and folder. They vouch for a file as long as its size, time and inode are what they
were when btget last wrote or checked it; on FAT, exFAT, SMB and FUSE, which number their files anew now and then, as long as
size and time are. They may be deleted at any time: the next start then reads
the data again.
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
For HTTP and HTTPS trackers, as
.BR curl (1)
reads them; never for loopback addresses.";

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
