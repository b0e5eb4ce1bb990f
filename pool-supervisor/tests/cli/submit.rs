//! `poolctl submit`.

use std::io::{BufRead, BufReader, Read, Write};
use std::sync::mpsc::channel;

use pool_protocol::control::RefusedCode;
use pool_protocol::frame::Kind;
use pool_protocol::outcome::ErrorCode;
use pool_protocol::task::OnDisconnect;

use crate::fake::{Fake, PATIENCE, head};
use crate::{poolctl, start};

const TASK: &str = "{\"type\":\"execute-code\",\"code\":\"1\"}\n";

/// Values of a field, line by line.
fn field(lines: &str, name: &str) -> Vec<serde_json::Value> {
    lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect(line)[name].clone())
        .collect()
}

#[test]
fn outcomes_come_as_tasks_finish_and_not_in_the_order_of_the_lines() {
    let fake = Fake::serving(|peer| {
        let tasks: Vec<_> = (0..3).map(|_| peer.task()).collect();
        assert_eq!(head(&tasks[0]).on_disconnect, OnDisconnect::Keep);
        for task in tasks.iter().rev() {
            peer.succeed(task.id, &task.id.to_string());
        }
    });
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tasks.ndjson");
    std::fs::write(&file, TASK.repeat(3)).expect("written");
    let ended = poolctl(&fake.socket, &["submit", file.to_str().expect("text")]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(field(&ended.stdout, "result"), [3, 2, 1]);
    assert_eq!(field(&ended.stdout, "status"), ["succeeded"; 3]);
}

#[test]
fn a_task_that_names_no_attempts_gets_those_of_the_arguments() {
    for (args, expected) in [(&["submit"][..], 3), (&["submit", "--attempts", "1"], 1)] {
        let fake = Fake::serving(move |peer| {
            for attempts in [expected, 7] {
                let task = peer.task();
                assert_eq!(head(&task).max_attempts, Some(attempts));
                peer.succeed(task.id, "1");
            }
        });
        let own = "{\"type\":\"execute-code\",\"code\":\"1\",\"maxAttempts\":7}\n";
        assert_eq!(start(&fake.socket, args).feed(&format!("{TASK}{own}")).end().code, Some(0));
    }
}

#[test]
fn a_line_that_is_no_task_is_rejected_by_its_number_and_the_others_go_on() {
    let fake = Fake::serving(|peer| {
        while let Some(task) = peer.frame() {
            peer.succeed(task.id, "1");
        }
    });
    let long = format!("{{\"type\":\"execute-code\",\"code\":\"{}\"}}", "1".repeat(5000));
    let lines = [
        (TASK.trim_end(), None),
        ("not json", Some("the task is not valid JSON")),
        ("", None),
        (
            r#"{"type":"execute-code","code":"1","prioritiy":3}"#,
            Some("`prioritiy` is not known; did you mean `priority`?"),
        ),
        (
            r#"{"type":"execute-code","code":"1","priority":11}"#,
            Some("field `priority` must be 0 to 10"),
        ),
        (r#"{"type":"execute-code"}"#, Some("field `code` is missing")),
        ("[]", Some("the task must be a JSON object, not an array")),
        (
            r#"{"type":"execute-code","code":"1"} trailing"#,
            Some("nothing more should be at column 36, not 't'"),
        ),
        (&long, Some("body of 5000 bytes; the supervisor accepts at most 4096")),
        (TASK.trim_end(), None),
    ];
    let input = lines.map(|(line, _)| line).join("\n");
    let ended = start(&fake.socket, &["submit", "-"]).feed(&input).end();
    assert_eq!(ended.code, Some(1));
    for (index, (line, problem)) in
        lines.iter().enumerate().filter_map(|(i, (l, p))| p.map(|p| (i, (l, p))))
    {
        ended.says(&format!("poolctl: line {}: ", index + 1)).says(problem);
        let shown: Vec<_> = ended
            .stdout
            .lines()
            .filter(|l| l.contains(&format!("\"line\":{},", index + 1)))
            .collect();
        let [shown] = shown[..] else { panic!("{line}: {shown:?}") };
        let shown: serde_json::Value = serde_json::from_str(shown).expect("JSON");
        assert_eq!(
            (&shown["status"], &shown["error"]["code"]),
            (&"rejected".into(), &"INVALID_TASK".into())
        );
        assert!(
            shown["error"]["message"].as_str().is_some_and(|message| message.contains(problem)),
            "{shown}"
        );
    }
    assert_eq!(ended.stdout.lines().filter(|line| line.contains("\"succeeded\"")).count(), 2);
}

#[test]
fn no_more_tasks_are_in_flight_than_the_window_holds() {
    let fake = Fake::serving(|peer| {
        let mut flying: Vec<u64> = (0..4).map(|_| peer.task().id).collect();
        assert!(peer.is_quiet(), "a fifth came");
        for _ in 0..6 {
            peer.succeed(flying.remove(0), "1");
            flying.push(peer.task().id);
            assert!(peer.is_quiet(), "a fifth came");
        }
        for request in flying {
            peer.succeed(request, "1");
        }
    });
    let ended = start(&fake.socket, &["submit", "--window", "4"]).feed(&TASK.repeat(10)).end();
    assert_eq!((ended.code, ended.stdout.lines().count()), (Some(0), 10), "{ended:?}");
    fake.finish();
}

#[test]
fn a_slow_producers_task_does_not_wait_for_the_next_line() {
    let fake = Fake::serving(|peer| {
        while let Some(task) = peer.frame() {
            peer.succeed(task.id, "1");
        }
    });
    let mut ctl = start(&fake.socket, &["submit"]);
    let mut stdin = ctl.stdin();
    let mut stdout = BufReader::new(ctl.child.stdout.take().expect("taken once"));
    for _ in 0..3 {
        stdin.write_all(TASK.as_bytes()).expect("it reads");
        let mut line = String::new();
        stdout.read_line(&mut line).expect("an outcome");
        assert_eq!(field(&line, "status"), ["succeeded"]);
    }
    drop(stdin);
    assert_eq!(ctl.end().code, Some(0));
}

#[test]
fn without_waiting_it_prints_ids() {
    let fake = Fake::serving(|peer| {
        for id in [33, 34] {
            let task = peer.task();
            let shown = head(&task);
            assert_eq!((shown.ack, shown.want_outcome), (true, false));
            assert_eq!(shown.on_disconnect, OnDisconnect::Keep);
            peer.accept(task.id, id);
        }
        let task = peer.task();
        peer.end(
            task.id,
            Some(ErrorCode::ShuttingDown),
            r#"{"message":"the pool is stopping"}"#,
            "",
        );
    });
    let ended =
        start(&fake.socket, &["submit", "--no-wait"]).feed(&(TASK.repeat(3) + "bad\n")).end();
    ended
        .expect(1, "11\n12\n")
        .says("line 3: SHUTTING_DOWN: the pool is stopping")
        .says("line 4: the task");
}

#[test]
fn a_full_queue_makes_it_slower_and_refuses_nothing() {
    for (args, no_wait) in [
        (&["submit", "--window", "3"][..], false),
        (&["submit", "--window", "3", "--no-wait"], true),
    ] {
        let fake = Fake::serving(move |peer| {
            let end = |peer: &mut crate::fake::Peer, id| match no_wait {
                true => peer.accept(id, 32 + id),
                false => peer.succeed(id, &id.to_string()),
            };
            let first: Vec<u64> = (0..3).map(|_| peer.task().id).collect();
            assert_eq!(first, [1, 2, 3]);
            for (id, code) in [(2, ErrorCode::QueueFull), (3, ErrorCode::ProjectQuota)] {
                peer.end(id, Some(code), r#"{"message":"2 tasks are waiting"}"#, "");
            }
            // It comes again by itself, since others may have made room, and before every later
            // line.
            assert_eq!(peer.task().id, 2);
            peer.end(2, Some(ErrorCode::QueueFull), r#"{"message":"2 tasks are waiting"}"#, "");
            end(peer, 1);
            let mut seen = std::collections::BTreeSet::new();
            while let Some(task) = peer.frame() {
                if seen.insert(task.id) {
                    end(peer, task.id);
                }
            }
            assert_eq!(seen.into_iter().collect::<Vec<_>>(), [2, 3, 4, 5]);
        });
        let ended = start(&fake.socket, args).feed(&TASK.repeat(5)).end();
        assert_eq!((ended.code, ended.stdout.lines().count()), (Some(0), 5), "{ended:?}");
        assert_eq!(ended.stderr.matches("wait for room").count(), 1, "{ended:?}");
        ended.says("2 tasks are waiting");
        fake.finish();
    }
}

#[test]
fn a_task_that_is_sent_again_keeps_its_deadline() {
    let fake = Fake::serving(|peer| {
        let task = peer.task();
        assert_eq!(head(&task).deadline_ms, Some(60_000));
        peer.end(task.id, Some(ErrorCode::QueueFull), r#"{"message":"full"}"#, "");
        let again = peer.task();
        assert!(head(&again).deadline_ms.is_some_and(|left| left < 60_000), "time has gone by");
        peer.succeed(again.id, "1");
    });
    let task = "{\"type\":\"execute-code\",\"code\":\"1\",\"deadline\":60000}\n";
    assert_eq!(start(&fake.socket, &["submit"]).feed(task).end().code, Some(0));
    fake.finish();
}

#[test]
fn ctrl_c_while_the_queue_is_full_leaves_the_refusals() {
    let (sent, arrived) = channel();
    let fake = Fake::serving(move |peer| {
        let task = peer.task();
        peer.end(task.id, Some(ErrorCode::QueueFull), r#"{"message":"full"}"#, "");
        while let Some(task) = peer.frame() {
            if task.kind == Kind::Submit {
                peer.end(task.id, Some(ErrorCode::QueueFull), r#"{"message":"full"}"#, "");
                let _ = sent.send(());
            } else {
                // It was in flight at that moment; its refusal is on its way.
                assert_eq!(task.kind, Kind::CancelSubmitted);
            }
        }
    });
    let ctl = start(&fake.socket, &["submit"]).feed(TASK);
    arrived.recv_timeout(PATIENCE).expect("it is sent again");
    ctl.interrupt();
    let ended = ctl.end();
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert_eq!(field(&ended.stdout, "status"), ["rejected"]);
}

#[test]
fn a_refused_line_comes_back_with_its_tag() {
    let fake = Fake::serving(|peer| assert!(peer.frame().is_none()));
    let lines = [
        r#"{"type":"execute-code","code":"1","priority":11,"tag":"a"}"#,
        r#"{"tag":"b","type":"execute-code","code":"1",}"#,
        r#"{"type":"execute-code","tag":"c","tag":"d"}"#,
        r#"{"type":"execute-code","tag":7}"#,
    ];
    let ended = start(&fake.socket, &["submit"]).feed(&lines.join("\n")).end();
    assert_eq!(
        field(&ended.stdout, "tag"),
        [Some("a"), Some("b"), Some("c"), None].map(serde_json::Value::from)
    );
    let long = format!(r#"{{"type":"execute-code","code":"{}","tag":"long"}}"#, "1".repeat(5000));
    let fake = Fake::serving(|peer| assert!(peer.frame().is_none()));
    assert_eq!(field(&start(&fake.socket, &["submit"]).feed(&long).end().stdout, "tag"), ["long"]);
}

#[test]
fn a_failed_task_makes_the_exit_code_1() {
    let fake = Fake::serving(|peer| {
        let tasks = [peer.task(), peer.task()];
        peer.succeed(tasks[0].id, "1");
        peer.end(tasks[1].id, Some(ErrorCode::Timeout), r#"{"message":"late"}"#, "");
    });
    let ended = start(&fake.socket, &["submit"]).feed(&TASK.repeat(2)).end();
    assert_eq!(ended.code, Some(1));
    assert_eq!(field(&ended.stdout, "status"), ["succeeded", "timed-out"]);
}

#[test]
fn a_connection_that_breaks_says_how_many_tasks_are_outstanding() {
    let fake = Fake::serving(|peer| {
        let tasks: Vec<_> = (0..5).map(|_| peer.task()).collect();
        peer.succeed(tasks[0].id, "1");
        peer.succeed(tasks[1].id, "2");
    });
    let ended = start(&fake.socket, &["submit", "--window", "5"]).feed(&TASK.repeat(5)).end();
    assert_eq!(
        (ended.code, field(&ended.stdout, "result")),
        (Some(125), vec![1.into(), 2.into()]),
        "{ended:?}"
    );
    ended.says("closed the connection; 3 tasks are outstanding");
}

#[test]
fn a_supervisor_that_answers_twice_is_not_believed() {
    let fake = Fake::serving(|peer| {
        let task = peer.task();
        peer.succeed(task.id, "1");
        peer.succeed(task.id, "2");
        drop(peer.frame());
    });
    let ended = start(&fake.socket, &["submit", "--window", "1"]).feed(&TASK.repeat(2)).end();
    assert_eq!(ended.code, Some(125), "{ended:?}");
    assert!(!ended.stdout.contains("\"result\":2"), "{ended:?}");
    ended.says("it sent Outcome where the answer to a task in flight was due");
}

#[test]
fn a_refused_frame_ends_it_with_the_supervisors_words() {
    let fake = Fake::serving(|peer| {
        let task = peer.task();
        peer.refuse(task.id, RefusedCode::Malformed, "the head is malformed");
    });
    start(&fake.socket, &["submit"])
        .feed(TASK)
        .end()
        .expect(1, "")
        .says("poolctl: the head is malformed");
}

#[test]
fn ctrl_c_cancels_what_is_in_flight_and_sends_no_more() {
    let (sent, arrived) = channel();
    let fake = Fake::serving(move |peer| {
        let mut flying: Vec<u64> = (0..2).map(|_| peer.task().id).collect();
        sent.send(()).expect("the test waits");
        while !flying.is_empty() {
            let cancel = peer.frame().expect("a cancel");
            assert_eq!(cancel.kind, Kind::CancelSubmitted);
            flying.retain(|id| *id != cancel.id);
            peer.end(cancel.id, Some(ErrorCode::Cancelled), r#"{"message":"cancelled"}"#, "");
        }
        assert!(peer.frame().is_none(), "nothing more is sent");
    });
    // The input stays open: it is Ctrl-C that ends it, not the end of the input.
    let mut ctl = start(&fake.socket, &["submit", "--window", "2"]);
    let mut stdin = ctl.stdin();
    stdin.write_all(TASK.repeat(5).as_bytes()).expect("it reads");
    arrived.recv_timeout(PATIENCE).expect("two tasks");
    ctl.interrupt();
    let ended = ctl.end();
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert_eq!(field(&ended.stdout, "status"), ["cancelled", "cancelled"]);
    drop(stdin);
    fake.finish();
}

#[test]
fn ctrl_c_while_nothing_is_in_flight_ends_it_at_once() {
    let fake = Fake::serving(|peer| {
        let task = peer.task();
        peer.succeed(task.id, "1");
        assert!(peer.frame().is_none());
    });
    let mut ctl = start(&fake.socket, &["submit"]);
    let mut stdin = ctl.stdin();
    stdin.write_all(TASK.as_bytes()).expect("it reads");
    let mut stdout = BufReader::new(ctl.child.stdout.take().expect("taken once"));
    stdout.read_line(&mut String::new()).expect("an outcome");
    ctl.interrupt();
    assert_eq!(ctl.end().code, Some(130));
    drop(stdin);
}

#[test]
fn a_reader_that_has_enough_ends_it_without_a_word() {
    let fake = Fake::serving(|peer| {
        while let Some(task) = peer.frame() {
            peer.succeed(task.id, &format!("{:?}", "x".repeat(3000)));
        }
    });
    let mut ctl = start(&fake.socket, &["submit"]);
    let mut stdin = ctl.stdin();
    let feeding = std::thread::spawn(move || while stdin.write_all(TASK.as_bytes()).is_ok() {});
    let mut stdout = ctl.child.stdout.take().expect("taken once");
    stdout.read_exact(&mut [0; 100]).expect("an outcome");
    drop(stdout);
    let ended = ctl.end();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(141), ""));
    feeding.join().expect("it only writes");
}

#[test]
fn an_input_that_cannot_be_read_is_named_and_nothing_is_tried() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("missing.ndjson");
    let missing = missing.to_str().expect("text");
    // Not even a connection is asked for.
    let nobody = folder.path().join("pool.sock");
    poolctl(&nobody, &["submit", missing]).expect(2, "").says(missing);
    let fake = Fake::serving(|peer| assert!(peer.frame().is_none()));
    let directory = folder.path().to_str().expect("text");
    poolctl(&fake.socket, &["submit", directory])
        .expect(2, "")
        .says(&format!("{directory}: Is a directory"));
    fake.finish();
}

#[test]
fn an_empty_input_is_no_work_and_no_mistake() {
    let fake = Fake::serving(|peer| assert!(peer.frame().is_none()));
    start(&fake.socket, &["submit"]).feed("\n \n").end().expect(0, "");
    fake.finish();
}
