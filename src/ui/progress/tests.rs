//! Scripted builds through every renderer, the live one on a virtual terminal.

use std::time::{Duration, Instant};

use diag::progress::{Outcome, Stream, TaskId};
use insta::assert_snapshot;

use super::script::{Script, failing_build};
use super::{Mode, View, json, plain, tty};
use crate::ui::printer::capture::{Captured, printer, screen};
use crate::ui::{Settings, Size, Terminal, Verbosity};

const SIZE: Size = Size { columns: 100, rows: 24 };

fn on_file() -> (crate::ui::Printer, Captured) {
    let (printer, _, err) = printer(Settings::default(), Terminal::file());
    (printer, err)
}

fn on_terminal(size: Size) -> (Script<tty::Tty>, Captured) {
    let (printer, _, err) = printer(Settings::default(), Terminal::fixed(size, false));
    (Script::new(tty::Tty::new(printer)), err)
}

#[test]
fn plain_lines() {
    let (printer, err) = on_file();
    failing_build(&mut Script::new(plain::Plain::new(printer)));
    assert_snapshot!(err.text(), @"
    #1 [base/debian] assemble
    #2 [openclaw sources] npm pack openclaw@2026.11.3
    #2 CACHED
    #1 2.100 2.8 MB
    #1 DONE 2.1s
    #3 [openclaw dependencies] pnpm fetch
    #3 0.500 Progress: resolved 812
    #3 WARNING: lock file is older than the manifest
    #3 0.600 fetched 812
    #3 1.000 ERR_PNPM_OUTDATED_LOCKFILE cannot install
    #3 ERROR 1.0s: the command ended with status 1
    ");
}

#[test]
fn plain_lines_of_a_long_download() {
    let (printer, err) = on_file();
    let mut script = Script::new(plain::Plain::new(printer));
    script.start("d", "[base/node] fetch 3 packages");
    for second in 0..=12 {
        script.at(second * 1000 + 100);
        script.transfer("d", "a.deb", second * 1_000_000, Some(12_000_000));
        script.transfer("d", "b.deb", (second * 3_000_000).min(9_000_000), Some(9_000_000));
    }
    script.transfer("d", "c.deb", 500, None).transfer("d", "c.deb", 700, Some(700));
    script.finish("d", Outcome::Done, 12_100).end();
    assert_snapshot!(err.text(), @"
    #1 [base/node] fetch 3 packages
    #1 5.100 14.0 MB / 21.0 MB (1 of 2 items)
    #1 10.100 19.0 MB / 21.0 MB (1 of 2 items)
    #1 12.100 21.0 MB (3 items)
    #1 DONE 12.1s
    ");
}

#[test]
fn json_lines() {
    let (printer, err) = on_file();
    failing_build(&mut Script::new(json::Json::new(printer)));
    assert_snapshot!(err.text(), @r#"
    {"time":0.0,"event":"started","task":"base","name":"[base/debian] assemble"}
    {"time":0.0,"event":"started","task":"cached","name":"[openclaw sources] npm pack openclaw@2026.11.3"}
    {"time":0.002,"event":"finished","task":"cached","outcome":"cached","error":null,"elapsed":0.0}
    {"time":0.01,"event":"transfer","task":"base","item":"libc6_2.41-12_amd64.deb","done":0,"total":2800000}
    {"time":1.01,"event":"transfer","task":"base","item":"libc6_2.41-12_amd64.deb","done":1400000,"total":2800000}
    {"time":2.0,"event":"transfer","task":"base","item":"libc6_2.41-12_amd64.deb","done":2800000,"total":2800000}
    {"time":2.1,"event":"finished","task":"base","outcome":"done","error":null,"elapsed":2.1}
    {"time":2.1,"event":"started","task":"deps","name":"[openclaw dependencies] pnpm fetch"}
    {"time":2.6,"event":"log","task":"deps","stream":"stdout","line":"Progress: resolved 812"}
    {"time":2.7,"event":"warning","task":"deps","message":"lock file is older than the manifest"}
    {"time":2.7,"event":"log","task":"deps","stream":"stdout","line":"fetched 812"}
    {"time":3.1,"event":"log","task":"deps","stream":"stdout","line":"ERR_PNPM_OUTDATED_LOCKFILE cannot install"}
    {"time":3.1,"event":"finished","task":"deps","outcome":"failed","error":"the command ended with status 1","elapsed":1.0}
    "#);
}

#[test]
fn a_failing_build_on_a_terminal() {
    let (mut script, err) = on_terminal(SIZE);
    failing_build(&mut script);
    assert_snapshot!(screen(&err.bytes(), SIZE), @"
    warning: [openclaw dependencies] pnpm fetch: lock file is older than the manifest
    [+] Building 3.1s (3/3) FAILED
     => [base/debian] assemble                                                                     2.1s
     => CACHED [openclaw sources] npm pack openclaw@2026.11.3                                      0.0s
     => ERROR [openclaw dependencies] pnpm fetch                                                   1.0s
    ");
}

#[test]
fn a_build_on_a_terminal_as_it_goes() {
    let (mut script, err) = on_terminal(SIZE);
    script.at(0).start("a", "[base/debian] assemble").start("b", "[openclaw build] pnpm build");
    script.start("c", "[sources] openclaw@2026.11.3").finish("c", Outcome::Cached, 0);
    for (item, size) in [("libc6.deb", 2_800_000), ("perl-base.deb", 1_600_000)] {
        script.at(0).transfer("a", item, 0, Some(size)).at(2_000).transfer("a", item, size / 3, Some(size));
    }
    for line in 1..=9 {
        script.log("b", &format!("compiled module {line} of 9\n"));
    }
    script.log("b", "half a li").at(2_345).tick();
    assert_snapshot!(screen(&err.bytes(), SIZE), @"
    [+] Building 2.3s (1/3)
     => [base/debian] assemble                                                                     2.3s
     => => libc6.deb                            [======>             ]  933.3 kB /   2.8 MB            
     => => perl-base.deb                        [======>             ]  533.3 kB /   1.6 MB            
     => [openclaw build] pnpm build                                                                2.3s
     => => # compiled module 5 of 9
     => => # compiled module 6 of 9
     => => # compiled module 7 of 9
     => => # compiled module 8 of 9
     => => # compiled module 9 of 9
     => => # half a li
     => CACHED [sources] openclaw@2026.11.3                                                        0.0s
    ");

    for item in 0..200 {
        script.transfer("a", &format!("package-{item}.deb"), if item < 150 { 1000 } else { 0 }, Some(1000));
    }
    script.transfer("a", "libc6.deb", 2_800_000, Some(2_800_000)).at(3_000).tick();
    assert_snapshot!(screen(&err.bytes(), SIZE), @"
    [+] Building 3.0s (1/3)
     => [base/debian] assemble                                                                     3.0s
     => => 151 of 202                           [===============>    ]    3.5 MB /   4.6 MB    1.2 MB/s
     => [openclaw build] pnpm build                                                                3.0s
     => => # compiled module 5 of 9
     => => # compiled module 6 of 9
     => => # compiled module 7 of 9
     => => # compiled module 8 of 9
     => => # compiled module 9 of 9
     => => # half a li
     => CACHED [sources] openclaw@2026.11.3                                                        0.0s
    ");

    script.finish("a", Outcome::Done, 3_100).at(3_400).finish("b", Outcome::Done, 3_400).end();
    assert_snapshot!(screen(&err.bytes(), SIZE), @"
    [+] Building 3.4s (3/3) FINISHED
     => [base/debian] assemble                                                                     3.1s
     => [openclaw build] pnpm build                                                                3.4s
     => CACHED [sources] openclaw@2026.11.3                                                        0.0s
    ");
}

#[test]
fn the_picture_never_outgrows_the_terminal() {
    for rows in [1, 2, 3, 5, 9, 40] {
        for columns in [1, 12, 79, 120] {
            let size = Size { columns, rows };
            let (mut script, err) = on_terminal(size);
            for task in 0..20 {
                let id = task.to_string();
                script.at(task).start(&id, &format!("[stage {task}] a step with quite a long name 漢字"));
                script.transfer(&id, "item", 1, Some(2)).log(&id, "some output\n");
                if task % 3 == 0 {
                    script.finish(&id, Outcome::Done, task);
                }
                script.tick();
            }
            let frame = err.text().rsplit("\x1b[J").nth(1).unwrap().to_owned();
            let lines: Vec<&str> = frame.lines().collect();
            assert!(lines.len() <= rows.max(3), "{} lines on {rows} rows", lines.len());
            assert!(lines.iter().all(|line| crate::ui::text::width(line) <= columns), "{columns} columns: {frame}");
        }
    }
}

#[test]
fn a_small_terminal_shows_what_runs_and_what_ended_last() {
    let size = Size { columns: 60, rows: 8 };
    let (mut script, err) = on_terminal(size);
    for task in 1..=6 {
        script.at(task * 100).start(&task.to_string(), &format!("[stage {task}] step")).log(&task.to_string(), "out\n");
        if task <= 4 {
            script.finish(&task.to_string(), Outcome::Done, 100);
        }
    }
    script.at(700).tick();
    assert_snapshot!(screen(&err.bytes(), size), @"
    [+] Building 0.7s (4/6)
     => [stage 3] step                                     0.1s
     => [stage 4] step                                     0.1s
     => [stage 5] step                                     0.2s
     => => # out
     => [stage 6] step                                     0.1s
     => => # out
    ");
    script.finish("5", Outcome::Done, 200).finish("6", Outcome::Canceled, 100).at(800).end();
    assert_snapshot!(screen(&err.bytes(), Size { columns: 60, rows: 12 }), @"
    [+] Building 0.8s (6/6) CANCELED
     => [stage 1] step                                     0.1s
     => [stage 2] step                                     0.1s
     => [stage 3] step                                     0.1s
     => [stage 4] step                                     0.1s
     => [stage 5] step                                     0.2s
     => CANCELED [stage 6] step                            0.1s
    ");
}

#[test]
fn the_view_shows_everything_sent_before_it_is_closed() {
    let (printer, err) = on_file();
    let view = View::open(&printer, Mode::Auto);
    let progress = view.progress();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let progress = progress.clone();
            scope.spawn(move || {
                for step in 0..100 {
                    let task = progress.task(TaskId::new(format!("{worker}/{step}")), "step");
                    task.transfer("item", step, None);
                    task.log(Stream::Stdout, "line\n");
                    task.finish(Outcome::Done);
                }
            });
        }
    });
    view.close();
    progress.task(TaskId::new("late"), "after the end").finish(Outcome::Done);
    let text = err.text();
    assert_eq!(text.matches(" step\n").count(), 400);
    assert_eq!(text.matches(" line\n").count(), 400);
    assert_eq!(text.matches(" DONE ").count(), 400);
    assert!(!text.contains("after the end"));
}

#[test]
fn a_view_without_events_writes_and_starts_nothing() {
    let (printer, _, err) = printer(Settings::default(), Terminal::fixed(SIZE, true));
    let view = View::open(&printer, Mode::Tty);
    assert!(view.0.queue.get().is_none());
    view.close();
    assert_eq!(err.text(), "");
}

#[test]
fn quiet_talk_means_quiet_progress() {
    let settings = Settings { verbosity: Verbosity::Quiet, ..Settings::default() };
    let (printer, _, err) = printer(settings, Terminal::fixed(SIZE, true));
    let view = View::open(&printer, Mode::Auto);
    view.progress().task(TaskId::new("a"), "step").finish(Outcome::Done);
    view.close();
    assert_eq!(err.text(), "");
}

#[test]
fn the_first_log_line_is_shown_at_once() {
    let (mut script, err) = on_terminal(SIZE);
    script.at(5).start("a", "[build] make");
    assert_eq!(err.text(), "");
    script.at(7).log("a", "cc main.c\n");
    assert_snapshot!(screen(&err.bytes(), SIZE), @"
    [+] Building 0.0s (0/1)
     => [build] make                                                                               0.0s
     => => # cc main.c
    ");
}

#[test]
fn a_cached_run_costs_next_to_nothing() {
    let (printer, _, err) = printer(Settings::default(), Terminal::fixed(SIZE, true));
    let run = || {
        let began = Instant::now();
        let view = View::open(&printer, Mode::Tty);
        let progress = view.progress();
        for step in 0..30 {
            progress.task(TaskId::new(step.to_string()), "step").finish(Outcome::Cached);
        }
        view.close();
        began.elapsed()
    };
    let best = (0..20).map(|_| run()).min().unwrap();
    assert!(best < Duration::from_millis(5), "30 cached steps took {best:?} in a debug build");
    assert!(err.text().contains("(30/30) FINISHED"));
}
