//! The commands that are one question and one answer, and events.

use pool_protocol::control::{ControlRequest, RefusedCode};
use pool_protocol::outcome::ErrorCode;

use crate::fake::Fake;
use crate::{Ended, poolctl};

/// Asks a supervisor that answers `json` to the request that is expected.
fn answered(args: &[&str], wanted: fn(&ControlRequest<'_>) -> bool, json: &'static str) -> Ended {
    let fake = Fake::serving(move |peer| {
        let request = peer.request(wanted);
        peer.reply(request, json);
    });
    let ended = poolctl(&fake.socket, args);
    fake.finish();
    ended
}

const STATUS: &str = r#"{"release":"0.1.0","pid":7,"state":"degraded","degraded":"workers do not start","minWorkers":1,"maxWorkers":4,"http":"127.0.0.1:45678","workers":{"total":3,"available":1,"busy":2,"spawning":0},"tasks":{"queued":12,"running":2,"total":1021,"completed":1004,"failed":3,"avgTime":1.234},"load":4.667,"projectUsage":{"a":1,"b":1},"uptime":192.4,"isolation":{"level":"standard","lanes":{"io":{"on":["landlock"],"missing":{}},"js":{"on":[],"missing":{"cgroup":"not delegated"}}}},"trust":{"value":"trusted","overridden":{}}}"#;

#[test]
fn status_is_a_page_or_the_supervisors_json() {
    let ask: fn(&ControlRequest<'_>) -> bool = |request| *request == ControlRequest::Status;
    answered(&["status"], ask, STATUS).expect(
        0,
        "state      degraded\n\
         reason     workers do not start\n\
         release    0.1.0 (pid 7)\n\
         uptime     3m12s\n\
         workers    3 of 1 to 4: 2 busy, 1 idle, 0 starting\n\
         tasks      2 running, 12 waiting\n\
         so far     1021 accepted, 1004 succeeded, 3 did not; mean run time 1.23 ms\n\
         load       4.67\n\
         projects   a 1, b 1\n\
         http       127.0.0.1:45678\n\
         isolation  standard: io has every layer; js lacks cgroup (not delegated)\n",
    );
    answered(&["status", "--json"], ask, STATUS).expect(0, &format!("{STATUS}\n"));
}

/// What the page says of the trust in a reply.
#[track_caller]
fn trust_line(trust: &str) -> Option<String> {
    let ask: fn(&ControlRequest<'_>) -> bool = |request| *request == ControlRequest::Status;
    let reply = STATUS.replace(r#"{"value":"trusted","overridden":{}}"#, trust);
    let page = answered(&["status"], ask, reply.leak()).stdout;
    page.lines().find(|line| line.starts_with("trust")).map(str::to_owned)
}

#[test]
fn status_says_when_the_code_is_not_trusted_and_what_weakens_that() {
    assert_eq!(trust_line(r#"{"value":"trusted","overridden":{}}"#), None);
    assert_eq!(
        trust_line(r#"{"value":"untrusted","overridden":{}}"#).as_deref(),
        Some("trust      untrusted")
    );
    assert_eq!(
        trust_line(r#"{"value":"untrusted","overridden":{"tenancy":"shared"}}"#).as_deref(),
        Some("trust      untrusted, overridden by tenancy = \"shared\""),
    );
}

const WORKERS: &str = r#"[{"workerId":"w0.2","pid":4321,"lane":"js","state":"busy","tasks":17,"memoryBytes":75497472,"cpuMs":1234.5,"age":61.2,"taskId":"1a","projectId":"p"},{"workerId":"w1.1","pid":99,"lane":"io","state":"idle","tasks":0,"memoryBytes":1024,"cpuMs":3.25,"age":4.0}]"#;

#[test]
fn workers_are_a_table() {
    let ask: fn(&ControlRequest<'_>) -> bool =
        |request| *request == ControlRequest::Workers { dead: false };
    answered(&["workers"], ask, WORKERS).expect(
        0,
        "WORKER   PID  LANE  STATE  TASKS    MEMORY      CPU    AGE  TASK  PROJECT\n\
         w0.2    4321  js    busy      17  72.0 MiB     1.2s  1m01s  1a    p\n\
         w1.1      99  io    idle       0   1.0 KiB  3.25 ms   4.0s  -     -\n",
    );
    answered(&["workers", "--json"], ask, WORKERS).expect(0, &format!("{WORKERS}\n"));
}

#[test]
fn dead_workers_come_with_their_verdict() {
    let ask: fn(&ControlRequest<'_>) -> bool =
        |request| *request == ControlRequest::Workers { dead: true };
    let rows = r#"[{"workerId":"w0.1","pid":12,"lane":"js","time":"2026-01-31T12:00:00Z","tasks":5,"age":0.5,"verdict":{"cause":"killed-from-outside","evidence":"signal 9"}}]"#;
    answered(&["workers", "--dead"], ask, rows).expect(
        0,
        "WORKER  PID  LANE  ENDED                 TASKS  LIVED  CAUSE                EVIDENCE\n\
         w0.1     12  js    2026-01-31T12:00:00Z      5   0.5s  killed-from-outside  signal 9\n",
    );
}

#[test]
fn projects_are_a_table() {
    let ask: fn(&ControlRequest<'_>) -> bool = |request| *request == ControlRequest::Projects;
    let rows = r#"{"a":{"used":1,"limit":5,"available":4,"queued":2,"weight":2.0,"ended":7},"b":{"used":0,"limit":null,"available":null,"queued":0,"weight":1.0,"ended":0}}"#;
    answered(&["projects"], ask, rows).expect(
        0,
        "PROJECT  RUNNING  LIMIT  AVAILABLE  WAITING  WEIGHT  ENDED\n\
         a              1      5          4        2       2      7\n\
         b              0   none       none        0       1      0\n",
    );
}

#[test]
fn a_task_shows_its_state_and_then_its_outcome() {
    let ask: fn(&ControlRequest<'_>) -> bool =
        |request| *request == ControlRequest::Task { task: 33 };
    let state = r#"{"taskId":"11","state":"retrying","projectId":"p","attempts":2}"#;
    answered(&["task", "11"], ask, state)
        .expect(0, "task      11\nstate     retrying\nproject   p\nattempts  2\n");
    let outcome = r#"{"taskId":"11","status":"failed","error":{"code":"JS_EXCEPTION","message":"no"},"attempts":3,"workerId":"w3.17","receipt":{"queuedMs":0.2,"runMs":1.1,"cpuMs":0.9,"memoryBytes":4194304}}"#;
    answered(&["task", "11"], ask, outcome).expect(
        0,
        "task      11\nstate     failed\nerror     JS_EXCEPTION: no\nattempts  3\nworker    \
         w3.17\nqueued    0.20 ms\n\
         ran       1.10 ms\ncpu       0.90 ms\nmemory    4.0 MiB\n",
    );
    answered(&["task", "11", "--json"], ask, outcome).expect(0, &format!("{outcome}\n"));
    let deep = format!("{}1{}", "[".repeat(1000), "]".repeat(1000));
    let outcome = outcome.replace(
        r#""error":{"code":"JS_EXCEPTION","message":"no"}"#,
        &format!(r#""result":{deep}"#),
    );
    let shown = answered(&["task", "11"], ask, outcome.leak());
    assert!(
        shown.code == Some(0) && shown.stdout.contains(&format!("result    {deep}\n")),
        "{shown:?}"
    );
}

#[test]
fn waiting_for_a_task_ends_as_running_it_would() {
    let fake = Fake::serving(|peer| {
        let request = peer.request(|request| *request == ControlRequest::Wait { task: 33 });
        peer.end(request, Some(ErrorCode::Timeout), r#"{"message":"late"}"#, "");
    });
    poolctl(&fake.socket, &["task", "11", "--wait"]).expect(124, "").says("TIMEOUT: late");
}

#[test]
fn what_was_done_is_said() {
    type Asked = fn(&ControlRequest<'_>) -> bool;
    let table: [(&[&str], Asked); 8] = [
        (&["cancel", "11"], |r| *r == ControlRequest::Cancel { task: 33 }),
        (&["drain"], |r| *r == ControlRequest::Drain),
        (&["reload"], |r| *r == ControlRequest::Reload),
        (&["reload", "--modules"], |r| *r == ControlRequest::ReloadModules),
        (&["shutdown"], |r| *r == ControlRequest::Shutdown { now: false }),
        (&["shutdown", "--now"], |r| *r == ControlRequest::Shutdown { now: true }),
        (&["limit", "p", "5"], |r| *r == ControlRequest::SetLimit { project: "p", limit: 5 }),
        (&["limit", "p", "none"], |r| *r == ControlRequest::LiftLimit { project: "p" }),
    ];
    for (args, asked) in table {
        let reply = r#"{"message":"it is so","projectId":"p","limit":5}"#;
        answered(args, asked, reply).expect(0, "it is so\n");
        answered(&[args, &["--json"]].concat(), asked, reply).expect(0, &format!("{reply}\n"));
    }
}

#[test]
fn a_refusal_is_the_supervisors_words_and_exit_code_1() {
    for (args, code) in
        [(["cancel", "11"], RefusedCode::Unknown), (["task", "11"], RefusedCode::Expired)]
    {
        let fake = Fake::serving(move |peer| {
            let request = peer.request(|_| true);
            peer.refuse(request, code, "no task 11 is known");
        });
        let ended = poolctl(&fake.socket, &args);
        ended.expect(1, "");
        assert_eq!(ended.stderr, "poolctl: no task 11 is known\n");
    }
}

#[test]
fn a_reply_of_another_shape_is_named_as_such() {
    let ended = answered(&["status"], |_| true, "{}");
    ended
        .expect(125, "")
        .says("failed to understand the supervisor's reply")
        .says("different releases");
}

const EVENT: &str =
    r#"{"seq":8,"time":"2026-01-31T12:00:00Z","event":"worker-started","workerId":"w0.1"}"#;

#[test]
fn events_are_listed_to_their_end() {
    let serve = |follow: bool| {
        Fake::serving(move |peer| {
            let request = peer
                .request(|request| *request == ControlRequest::Events { since: Some(5), follow });
            peer.reply(request, r#"{"last":8,"lost":2}"#);
            peer.event(request, EVENT);
            peer.reply(request, r#"{"last":8,"lost":0}"#);
        })
    };
    let fake = serve(false);
    let ended = poolctl(&fake.socket, &["events", "--since", "5"]);
    ended.expect(0, "     8 2026-01-31T12:00:00Z worker-started    worker=w0.1\n");
    ended.says("2 older events are no longer kept");
    let fake = serve(true);
    poolctl(&fake.socket, &["events", "--since", "5", "--follow", "--json"])
        .expect(0, &format!("{EVENT}\n"));
}

#[test]
fn a_number_from_before_a_restart_is_told_and_all_that_is_kept_is_shown() {
    for follow in [false, true] {
        let fake = Fake::serving(move |peer| {
            let earlier = peer
                .request(|request| *request == ControlRequest::Events { since: Some(900), follow });
            peer.reply(earlier, r#"{"last":8,"lost":0}"#);
            if !follow {
                peer.reply(earlier, r#"{"last":8,"lost":0}"#);
            }
            let request = peer
                .request(|request| *request == ControlRequest::Events { since: Some(0), follow });
            peer.reply(request, r#"{"last":8,"lost":0}"#);
            peer.event(earlier, EVENT);
            peer.event(request, EVENT);
            peer.reply(request, r#"{"last":8,"lost":0}"#);
        });
        let args = ["events", "--since", "900", "--json", "--follow"];
        let ended = poolctl(&fake.socket, &args[..if follow { 5 } else { 4 }]);
        ended.expect(0, &format!("{EVENT}\n"));
        ended.says("the newest event is 8: the supervisor has started anew since event 900");
    }
}

#[test]
fn the_last_events_are_those_before_the_newest_of_the_moment() {
    let numbered = |seq: u64| EVENT.replace("\"seq\":8", &format!("\"seq\":{seq}"));
    // Asked for two, while one more comes between the two requests.
    let serve = |wanted: u64, lost: u64, follow: bool| {
        Fake::serving(move |peer| {
            let all = ControlRequest::Events { since: Some(u64::MAX), follow: false };
            let request = peer.request(|request| *request == all);
            peer.reply(request, r#"{"last":8,"lost":0}"#);
            peer.reply(request, r#"{"last":8,"lost":0}"#);
            let since = Some(8_u64.saturating_sub(wanted));
            let request =
                peer.request(|request| *request == ControlRequest::Events { since, follow });
            peer.reply(request, &format!(r#"{{"last":9,"lost":{lost}}}"#));
            for seq in 8_u64.saturating_sub(wanted) + lost + 1..=9 {
                peer.event(request, &numbered(seq));
            }
            peer.reply(request, r#"{"last":9,"lost":0}"#);
        })
    };
    let lines = |range: std::ops::RangeInclusive<u64>| {
        range.map(|seq| numbered(seq) + "\n").collect::<String>()
    };
    for (wanted, lost, follow, shown) in
        [(2, 0, false, 7..=8), (2, 0, true, 7..=9), (60, 6, false, 7..=8)]
    {
        let fake = serve(wanted, lost, follow);
        let wanted = wanted.to_string();
        let mut args = vec!["events", "--last", &wanted, "--json"];
        args.extend(follow.then_some("--follow"));
        let ended = poolctl(&fake.socket, &args);
        ended.expect(0, &lines(shown));
        assert_eq!(ended.stderr, "", "events that are gone are none of the last");
    }
}
