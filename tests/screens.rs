//! What stands on a terminal, drawn by tmux: whatever its width, its kind, its locale, and what is done to it. Without tmux
//! these are reported as ignored; tests/run installs it.

mod support;

use std::fs;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use tempfile::TempDir;
use unicode_width::UnicodeWidthStr;

use support::clients::Btget;
use support::fixture::Fixture;
use support::process::{PATIENCE, Process, wait_until};
use support::system::trial;
use support::terminal::{Terminal, has_tmux};
use support::tracker::{Manners, Tracker};

const WIDTHS: [usize; 6] = [30, 40, 60, 80, 120, 200];

const COLOR: &str = "TERM=xterm-256color LC_ALL=C.UTF-8";
const PLAIN: &str = "TERM=xterm-256color LC_ALL=C.UTF-8 NO_COLOR=1";
const ASCII: &str = "TERM=xterm-256color LC_ALL=C";

/// Nobody answers there.
const NO_TRACKER: &str = "http://127.0.0.1:9/announce";

/// Torrents `00.torrent` and so on in a folder. What all of them hold is in its folder `full`, what the first ones hold, in `data` too.
fn torrents(names: &[&'static str], there: usize, length: usize, announce: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    for part in ["full", "data"] {
        fs::create_dir(folder.path().join(part)).unwrap();
    }
    for (number, name) in names.iter().enumerate() {
        let mut data = vec![0; length];
        fastrand::Rng::with_seed(number as u64).fill(&mut data);
        fs::write(folder.path().join("full").join(name), &data).unwrap();
        if number < there {
            fs::write(folder.path().join("data").join(name), &data).unwrap();
        }
        let fixture = Fixture::of(name, vec![("", data)], announce);
        fs::copy(fixture.torrent(), folder.path().join(format!("{number:02}.torrent"))).unwrap();
    }
    folder
}

fn names(number: usize) -> Vec<&'static str> {
    (0..number).map(|number| &*format!("torrent-{number:02}").leak()).collect()
}

/// The command that downloads them into `data`.
fn download(options: &str) -> String {
    // All at the same time: what is looked at here is many bars that move.
    let all = "--max-downloads 100";
    format!("{} *.torrent -d data --state-dir '' --no-lsd --bind 127.0.0.1 {all} {options}", Btget::program())
}

fn is_bar(line: &str) -> bool {
    line.contains('▏') || (line.contains('[') && line.contains(']'))
}

fn bars(screen: &[String]) -> usize {
    screen.iter().filter(|line| is_bar(line)).count()
}

/// So many downloads and nothing else.
fn wait_for_bars(terminal: &Terminal, number: usize) -> Vec<String> {
    terminal
        .wait_for(&format!("{number} bars"), |screen| bars(screen) == number && downloads(screen) == number)
}

fn downloads(screen: &[String]) -> usize {
    screen.iter().filter(|line| line.contains(" downloading") && !line.contains("more torrents")).count()
}

/// Ctrl-C, and all that stands there when the shell asks for the next command.
fn stop(terminal: &Terminal) -> Vec<String> {
    terminal.press("C-c");
    terminal.wait_for("the prompt", |screen| screen.last().is_some_and(|line| line == "$"));
    terminal.all()
}

/// At each width: the bar is there, nothing is wider than the terminal, and a typed Ctrl-C leaves nothing of it.
fn each_width(environment: &str) {
    let folder = torrents(&["a-torrent-with-a-name-of-some-length.iso"], 0, 300_000, NO_TRACKER);
    for width in WIDTHS {
        let terminal = Terminal::with_shell((width, 24), folder.path(), environment);
        terminal.run(&download(""));
        let screen = wait_for_bars(&terminal, 1);
        let at = screen.iter().position(|line| is_bar(line)).unwrap();
        assert!(screen[at].width() + 2 < width, "{width}: {screen:#?}");
        assert_eq!(at + 1, screen.len(), "the bar is the last line, {width}: {screen:#?}");
        let name = if width >= 123 { &screen[at] } else { &screen[at - 1] };
        assert!(name.starts_with("a-torr") && name.contains("downloading"), "{width}: {screen:#?}");
        if environment == ASCII {
            assert!(screen.iter().all(|line| line.is_ascii()), "{width}: {screen:#?}");
        }
        let left = stop(&terminal);
        let holding = |what: &str| left.iter().filter(|line| line.contains(what)).count();
        assert_eq!(left[1..].iter().filter(|line| is_bar(line)).count(), 0, "{width}: {left:#?}");
        assert_eq!((holding("(exit code 7)"), holding("downloading")), (1, 0), "{width}: {left:#?}");
        assert!(holding("^C") <= 1, "{width}: {left:#?}");
    }
}

fn a_terminal_that_changes_its_width_shows_each_bar_once() {
    let folder = torrents(&names(2), 0, 300_000, NO_TRACKER);
    let terminal = Terminal::with_shell((200, 24), folder.path(), COLOR);
    terminal.run(&download(""));
    wait_for_bars(&terminal, 2);
    for width in [130, 100, 60, 30, 80, 40, 200, 35] {
        terminal.resize(width, 24);
        // At the latest a second later there is a frame for it.
        sleep(Duration::from_millis(1300));
        let screen = terminal.screen();
        let lines = if width - 3 >= 120 { 2 } else { 4 };
        let frame = &screen[screen.len() - lines..];
        assert_eq!((bars(&screen), bars(frame)), (2, 2), "{width}: {screen:#?}");
        assert_eq!(
            screen
                .iter()
                .filter(|line| line.starts_with("torrent-0") && line.contains("downloading"))
                .count(),
            2,
            "{width}: {screen:#?}"
        );
    }
    stop(&terminal);
    let left = terminal.screen();
    assert!(left.iter().all(|line| !is_bar(line)), "{left:#?}");
}

fn a_second_ctrl_c_says_so_on_a_line_of_its_own() {
    let tracker = Tracker::start();
    let folder = torrents(&names(2), 0, 300_000, &tracker.url());
    let terminal = Terminal::with_shell((120, 24), folder.path(), COLOR);
    terminal.run(&download(""));
    wait_for_bars(&terminal, 2);
    assert!(tracker.wait_for(PATIENCE, |announces| announces.len() == 2));
    tracker.set_manners(Manners::Hang);
    terminal.press("C-c");
    terminal.wait_for("the stop", |screen| screen.iter().any(|line| line.contains("again exits at once")));
    // Sooner, it would be the same request.
    sleep(Duration::from_millis(400));
    let left = stop(&terminal);
    let said = "error: exited at once, by a second signal to stop (exit code 130); ";
    assert_eq!(left.iter().filter(|line| line.starts_with(said)).count(), 1, "{left:#?}");
}

/// Whether these are lines of downloads, each with its bar below it.
fn is_frame(lines: &[String]) -> bool {
    lines.chunks(2).all(|pair| pair[0].contains("downloading") && is_bar(&pair[1]))
}

/// The busy ones, and a line that counts the others.
fn more_than_fit(number: usize, (columns, rows): (usize, usize), shown: usize, rest: &str) {
    let folder = torrents(&names(number), 3, 300_000, NO_TRACKER);
    let terminal = Terminal::with_shell((columns, rows), folder.path(), PLAIN);
    terminal.run(&download(""));
    // A screen is looked at whenever, perhaps while a frame is drawn over the one before it.
    let screen = terminal.wait_for(rest, |screen| {
        let has_all = screen.last().is_some_and(|line| line == rest) && screen.len() > 2 * shown;
        has_all && is_frame(&screen[screen.len() - 1 - 2 * shown..screen.len() - 1])
    });
    assert_eq!((bars(&screen), downloads(&screen)), (shown, shown), "{screen:#?}");
    let left = stop(&terminal);
    assert!(left[1..].iter().all(|line| !is_bar(line) && !line.contains("more torrents")), "{left:#?}");
    // All that fits what tmux keeps: each has its last line.
    for number in 0..number {
        let name = format!("torrent-{number:02}  ");
        assert_eq!(left.iter().filter(|line| line.starts_with(&name)).count(), 1, "{name}: {left:#?}");
    }
}

fn names_of_any_kind_leave_the_bars_whole() {
    let family = "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}\u{200d}\u{1f466}";
    let of_emoji: &'static str = family.repeat(8).leak();
    let names = [
        of_emoji,
        "日本語の長い名前の日本語の長い名前の日本語の長い名前の日本語",
        "e\u{301}a\u{308}\u{2764}\u{fe0f} n\u{303}",
        "plain",
    ];
    let folder = torrents(&names, 0, 300_000, NO_TRACKER);
    for width in [40, 80, 200] {
        let terminal = Terminal::with_shell((width, 24), folder.path(), PLAIN);
        terminal.run(&download(""));
        let screen = wait_for_bars(&terminal, 4);
        let lines = if width >= 123 { 4 } else { 8 };
        let frame = &screen[screen.len() - lines..];
        assert_eq!(bars(frame), 4, "{width}: {screen:#?}");
        let states: Vec<&String> = frame.iter().filter(|line| line.contains("downloading")).collect();
        assert_eq!(states.len(), 4, "{width}: {screen:#?}");
        let behind = |line: &&String| line.split_once("downloading").unwrap().1.to_owned();
        if width < 123 {
            assert!(states.windows(2).all(|two| behind(&two[0]) == behind(&two[1])), "{width}: {screen:#?}");
        }
        let left = stop(&terminal);
        assert!(left[1..].iter().all(|line| !is_bar(line)), "{width}: {left:#?}");
    }
}

/// What is written to a terminal that cannot be drawn on.
fn lines_and_nothing_else(environment: &str) {
    let folder = torrents(&names(1), 0, 300_000, NO_TRACKER);
    let terminal = Terminal::with_shell((100, 24), folder.path(), environment);
    let record = folder.path().join("record");
    terminal.record(&record);
    terminal.run(&download(""));
    terminal.wait_for("a line", |screen| {
        screen.iter().any(|line| line.starts_with("torrent-00: downloading, 0.0%"))
    });
    let left = stop(&terminal);
    assert!(left.iter().any(|line| line.contains("(exit code 7)")), "{left:#?}");
    let written = fs::read(&record).unwrap();
    assert!(!written.contains(&0x1b), "{}", String::from_utf8_lossy(&written).escape_debug());
}

fn events_at_a_terminal_stand_alone() {
    let folder = torrents(&names(1), 0, 300_000, NO_TRACKER);
    let terminal = Terminal::with_shell((100, 24), folder.path(), COLOR);
    terminal.run(&download("--json --stall-timeout 2s | sed 's/.*\"event\":\"\\([a-z_]*\\)\".*/event \\1/'"));
    let screen = terminal.wait_for("the prompt", |screen| screen.last().is_some_and(|line| line == "$"));
    let others: Vec<&String> =
        screen[1..].iter().filter(|line| !line.starts_with("event ") && *line != "$").collect();
    let of_the_command = |line: &&&String| line.contains("sed 's/") || line.contains("\\([a-z_]*");
    let others: Vec<&&String> = others.iter().filter(|line| !of_the_command(line)).collect();
    assert_eq!(others.len(), 1, "nothing but why it ended: {screen:#?}");
    assert!(others[0].contains("(exit code 5)"), "{screen:#?}");
    assert!(screen.iter().any(|line| line == "event summary"), "{screen:#?}");
}

/// Colours that stand out on a light and on a dark ground: the terminal's own red to cyan, bold and dim.
fn is_of_any_ground(parameter: &str) -> bool {
    matches!(parameter, "" | "0" | "1" | "2" | "22" | "39" | "49" | "31" | "32" | "33" | "34" | "36")
}

fn busy_terminals_get_ten_kib_a_second_and_whole_frames() {
    let tracker = Tracker::start();
    let folder = torrents(&names(9), 0, 3 << 20, &tracker.url());
    let mut seed = Btget::command();
    seed.current_dir(folder.path()).args([
        "-q",
        "--no-lsd",
        "--bind",
        "127.0.0.1",
        "--state-dir",
        "",
        "-d",
        "full",
    ]);
    seed.args((0..9).map(|number| format!("{number:02}.torrent")));
    let _seed = Process::start("seed", &mut seed);
    let seeds = || tracker.announces().iter().filter(|announce| announce.left == 0).count();
    wait_until("the seed", String::new, || (seeds() >= 9).then_some(()));
    let terminal = Terminal::with_shell((200, 30), folder.path(), COLOR);
    let record = folder.path().join("record");
    terminal.run(&download("--max-download-rate 3M --no-seed"));
    wait_for_bars(&terminal, 9);
    terminal.record(&record);
    sleep(Duration::from_secs(5));
    let written = fs::read_to_string(&record).unwrap();
    let frame = written.split("\x1b[?2026h").map(str::len).max().unwrap();
    assert!(
        written.len() <= (5 << 10) * 11 + 2 * frame,
        "{} bytes in 5 s, a frame of {frame}",
        written.len()
    );
    let (begun, ended) = (written.matches("\x1b[?2026h").count(), written.matches("\x1b[?2026l").count());
    assert!(begun >= 5 && begun.abs_diff(ended) <= 1, "{begun} {ended}");
    for sequence in terminal.colored().split("\x1b[").skip(1) {
        let (parameters, _) = sequence.split_once('m').unwrap();
        assert!(parameters.split(';').all(is_of_any_ground), "{parameters}");
    }
    stop(&terminal);
}

fn main() -> ExitCode {
    let trial = |name: &str, run: fn()| trial(name, has_tmux(), run);
    let trials: Vec<Trial> = vec![
        trial("ctrl_c_leaves_nothing_at_any_width_with_colour", || each_width(COLOR)),
        trial("ctrl_c_leaves_nothing_at_any_width_without_colour", || each_width(PLAIN)),
        trial("ctrl_c_leaves_nothing_at_any_width_in_ascii", || each_width(ASCII)),
        trial(
            "a_terminal_that_changes_its_width_shows_each_bar_once",
            a_terminal_that_changes_its_width_shows_each_bar_once,
        ),
        trial("a_second_ctrl_c_says_so_on_a_line_of_its_own", a_second_ctrl_c_says_so_on_a_line_of_its_own),
        trial("nine_on_ten_rows", || {
            more_than_fit(9, (80, 10), 4, "5 more torrents: 2 downloading, 3 seeding")
        }),
        trial("forty_on_twenty_four_rows", || {
            more_than_fit(40, (80, 24), 11, "29 more torrents: 26 downloading, 3 seeding")
        }),
        trial("names_of_any_kind_leave_the_bars_whole", names_of_any_kind_leave_the_bars_whole),
        trial("a_dumb_terminal_gets_lines", || lines_and_nothing_else("TERM=dumb LC_ALL=C.UTF-8")),
        trial("a_terminal_of_no_kind_gets_lines", || lines_and_nothing_else("-u TERM LC_ALL=C.UTF-8")),
        trial("events_at_a_terminal_stand_alone", events_at_a_terminal_stand_alone),
        trial(
            "busy_terminals_get_ten_kib_a_second_and_whole_frames",
            busy_terminals_get_ten_kib_a_second_and_whole_frames,
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
