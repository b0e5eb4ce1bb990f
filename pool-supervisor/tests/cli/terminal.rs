//! What a person at a terminal sees and a pipe does not.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use nix::pty::{Winsize, openpty};

use crate::fake::Fake;

/// A terminal, and what was written to it once everybody has closed it.
fn terminal() -> (Stdio, JoinHandle<String>) {
    let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let pair = openpty(&size, None).expect("a terminal");
    let reading = std::thread::spawn(move || {
        let mut screen = File::from(pair.master);
        let (mut seen, mut chunk) = (Vec::new(), [0; 4096]);
        // The system reports the last close as an error, not as an end.
        while let Ok(n @ 1..) = screen.read(&mut chunk) {
            seen.extend_from_slice(&chunk[..n]);
        }
        String::from_utf8_lossy(&seen).into_owned()
    });
    (Stdio::from(pair.slave), reading)
}

fn command(socket: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_poolctl"));
    command
        .env_clear()
        .env("TERM", "xterm")
        .arg("--socket")
        .arg(socket)
        .args(args)
        .stdin(Stdio::null());
    command
}

fn workers() -> Fake {
    Fake::serving(|peer| {
        let request = peer.request(|_| true);
        let row = r#"[{"workerId":"w0.1","pid":1,"lane":"js","state":"idle","tasks":0,"memoryBytes":0,"cpuMs":0,"age":0}]"#;
        peer.reply(request, row);
    })
}

#[test]
fn a_terminal_gets_colours_unless_it_wants_none() {
    for (no_color, coloured) in [(None, true), (Some("1"), false), (Some(""), true)] {
        let fake = workers();
        let (slave, screen) = terminal();
        let mut command = command(&fake.socket, &["workers"]);
        if let Some(value) = no_color {
            command.env("NO_COLOR", value);
        }
        let status = command.stdout(slave).stderr(Stdio::null()).status().expect("poolctl");
        // The terminal stays open while the command's own copy of it does.
        drop(command);
        let shown = screen.join().expect("it only reads");
        assert!(status.success() && shown.contains("w0.1"), "{shown:?}");
        assert_eq!(shown.contains("\x1b["), coloured, "NO_COLOR={no_color:?}: {shown:?}");
    }
}

#[test]
fn a_terminal_gets_a_bar_and_a_summary() {
    let fake = Fake::serving(|peer| {
        while let Some(task) = peer.frame() {
            std::thread::sleep(std::time::Duration::from_millis(150));
            peer.succeed(task.id, "1");
        }
    });
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tasks.ndjson");
    std::fs::write(&file, "{\"type\":\"execute-code\",\"code\":\"1\"}\n".repeat(4))
        .expect("written");
    let (slave, screen) = terminal();
    let mut command =
        command(&fake.socket, &["submit", "--window", "1", file.to_str().expect("text")]);
    let output =
        command.stdout(Stdio::piped()).stderr(slave).spawn().expect("poolctl").wait_with_output();
    drop(command);
    let shown = screen.join().expect("it only reads");
    assert_eq!(output.expect("poolctl").stdout.iter().filter(|byte| **byte == b'\n').count(), 4);
    // On a busy machine not each step is drawn.
    assert!(["1/4", "2/4", "3/4"].iter().any(|step| shown.contains(step)), "{shown:?}");
    assert!(shown.contains("4 succeeded in "), "{shown:?}");
}

#[test]
fn a_tasks_words_do_not_steer_the_terminal() {
    let fake = Fake::serving(|peer| {
        let task = peer.task();
        let code = Some(pool_protocol::outcome::ErrorCode::JsException);
        peer.end(task.id, code, r#"{"message":"a\u001b[2Jb"}"#, "");
    });
    let (slave, screen) = terminal();
    let mut command = command(&fake.socket, &["run", "code", "1"]);
    let status = command.stdout(Stdio::null()).stderr(slave).status().expect("poolctl");
    drop(command);
    assert_eq!(status.code(), Some(1));
    let shown = screen.join().expect("it only reads");
    assert!(shown.contains("a\\u001b[2Jb"), "{shown:?}");
}

#[test]
fn nothing_that_a_task_returns_steers_the_terminal() {
    let result = r#""a\u001b]0;title\u0007\u009b2Jb""#;
    let outcome = r#"{"taskId":"11","status":"succeeded","result":RESULT,"attempts":1,"tag":"t\u001b[2J","receipt":{"queuedMs":0,"runMs":0,"cpuMs":0,"memoryBytes":0}}"#
        .replace("RESULT", &result.replace("\\u009b", "\u{9b}"));
    let log = r#"{"seq":8,"time":"t","event":"task-log","message":"a\u001b[2Jb"}"#;
    for (args, reply) in [
        (&["run", "code", "1"][..], None),
        (&["run", "code", "1", "--json"], None),
        (&["task", "11"], Some(outcome.clone())),
        (&["task", "11", "--json"], Some(outcome)),
        (&["events"], Some(log.to_owned())),
    ] {
        let fake = Fake::serving(move |peer| match reply {
            None => {
                let task = peer.task();
                peer.succeed(task.id, &result.replace("\\u009b", "\u{9b}"));
            }
            Some(reply) if reply == log => {
                let request = peer.request(|_| true);
                peer.reply(request, r#"{"last":8,"lost":0}"#);
                peer.event(request, &reply);
                peer.reply(request, r#"{"last":8,"lost":0}"#);
            }
            Some(reply) => {
                let request = peer.request(|_| true);
                peer.reply(request, &reply);
            }
        });
        let (slave, screen) = terminal();
        let mut command = command(&fake.socket, args);
        command.env("NO_COLOR", "1");
        let status = command.stdout(slave).stderr(Stdio::null()).status().expect("poolctl");
        drop(command);
        let shown = screen.join().expect("it only reads");
        assert!(status.success() && shown.contains("\\u001b"), "{args:?}: {shown:?}");
        let is_control = |c: char| c.is_control() && !['\r', '\n'].contains(&c);
        assert!(!shown.contains(is_control), "{args:?}: {shown:?}");
    }
}
