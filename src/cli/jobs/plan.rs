//! `--plan`: says what each torrent's transfer would do, and does none of it.

use std::io::{self, Write};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Instant;

use crate::bitfield::Bitfield;
use crate::cli::Exit;
use crate::cli::jobs::check::{FAR, check_status};
use crate::cli::jobs::load::Loaded;
use crate::cli::jobs::run::{Refusal, no_stdout, no_thread};
use crate::cli::options::config::Config;
use crate::cli::show::plan::{exit_of, show_plan, show_plan_json};
use crate::cli::show::say::Mark;
use crate::cli::show::screen::{Screen, message};
use crate::client::{HashCheck, Plan, Planner, TorrentOptions};
use crate::metainfo::Metainfo;
use crate::text::escape;
use anyhow::anyhow;

/// Plans torrent after torrent, each with the weights of its files; the exit code is that of the worst.
pub(super) fn run_plan(config: &Config, torrents: Vec<(Loaded, Vec<u32>)>) -> Result<Exit, Refusal> {
    let mut planner = Planner::new(config.session.remedies);
    let mut screen = Screen::new(config, torrents.len(), Instant::now());
    let mut exit = Exit::Complete;
    let mut out = Some(io::stdout().lock());
    for (number, (torrent, priorities)) in torrents.into_iter().enumerate() {
        let options = TorrentOptions { priorities, ..config.torrent.clone() };
        let metainfo = &torrent.metainfo;
        let plan = plan_one(&mut planner, metainfo, &options, number, &mut screen)?;
        screen.hide(number);
        let shown = out.as_mut().map_or(Ok(()), |out| match config.json {
            Some(_) => show_plan_json(metainfo, &plan, out),
            None if number > 0 => out.write_all(b"\n").and_then(|()| show_plan(metainfo, &plan, out)),
            None => show_plan(metainfo, &plan, out),
        });
        match shown {
            // `btget --plan x.torrent | head` has all it wants; the exit code is that of all.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => out = None,
            other => other.map_err(no_stdout)?,
        }
        if let Some((_, reason)) = plan.obstacles.first() {
            let code = exit_of(&plan).code();
            let text = format!("{}: {reason} (exit code {code})", escape(&metainfo.name));
            message(Mark::Error, &text, config.color_stderr);
        }
        exit = exit.worst(exit_of(&plan));
    }
    screen.clear();
    Ok(exit)
}

/// Plans a torrent beside this thread, and shows how far the reading is.
fn plan_one(
    planner: &mut Planner,
    metainfo: &Metainfo,
    options: &TorrentOptions,
    number: usize,
    screen: &mut Screen,
) -> Result<Plan, Refusal> {
    let check = HashCheck::new(Instant::now(), metainfo.layout.num_pieces());
    let pieces = Bitfield::full(metainfo.layout.num_pieces());
    let (end, ended) = sync_channel::<()>(1);
    thread::scope(|scope| {
        let check = &check;
        let run = move || {
            let plan = planner.plan_by(metainfo, options, check);
            drop(end);
            plan
        };
        let planning = thread::Builder::new().name("plan".to_owned()).spawn_scoped(scope, run);
        let planning = planning.map_err(|error| (Exit::Failure, anyhow!("{}", no_thread(&error))))?;
        loop {
            let now = Instant::now();
            // Until it is known how much there is to read, nothing of it would look like all.
            let (_, to_read, _) = check.progress(now);
            screen.draw(now, |other| {
                (other == number && to_read > 0).then(|| check_status(metainfo, &pieces, check, now))
            });
            let wait = screen.deadline().map_or(FAR, |next| next.saturating_duration_since(now));
            if ended.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                break;
            }
        }
        Ok(planning.join().expect("planning does not panic"))
    })
}
