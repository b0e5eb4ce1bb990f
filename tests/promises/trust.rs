//! `trust`: one setting for code of strangers, what it implies, and who is told.

use std::net::Ipv4Addr;

use pool_protocol::control::ControlRequest;
use pool_tests::apart::{add_address, with_own_network};
use pool_tests::names::Names;
use pool_tests::pool::{Ctl, supervisor_command};
use pool_tests::server::{Reply, Server};
use pool_tests::tasks::{code, error, get, result, with};
use pool_tests::{Folder, Pool, Value, json, proc, until, until_some};

/// Public by its prefix, and given to nobody: even where it is dialled, nobody is reached.
const NOBODYS: &str = "http://[2d00::1]/";

/// Untrusted as far as a machine without delegated control groups can be.
fn untrusted(more: Value) -> Value {
    let pool = json!({"minWorkers": 1, "maxWorkers": 2, "scaleCooldown": 50});
    with(json!({"trust": "untrusted", "cgroup": {"mode": "auto"}, "pool": pool}), more)
}

/// Starts it, or says why this machine cannot be as strict as that.
fn start(config: Value) -> Option<Pool> {
    let pool = Pool::launch(config, |_| {});
    let ready = until_some("a worker is ready, or the supervisor has ended", || {
        if !proc::alive(pool.pid()) {
            return Some(false);
        }
        pool.try_status().filter(|status| status["workers"]["available"] == 1).map(|_| true)
    });
    if ready {
        return Some(pool);
    }
    assert!(pool.log().contains("as the configuration promises"), "{}", pool.log());
    println!("skipped: a layer that strict promises; see the log:\n{}", pool.log());
    None
}

fn check(folder: &Folder, name: &str, text: &str) -> Ctl {
    let file = folder.write(name, text);
    let checked =
        supervisor_command(folder).arg("--check-config").arg("--config").arg(file).output();
    checked.expect("it starts").into()
}

#[test]
fn check_config_says_on_stderr_what_trust_implies_and_prints_a_file_that_says_the_same() {
    let folder = Folder::new();
    for (text, said) in [
        ("", &[][..]),
        ("trust = 'trusted'", &[]),
        (
            "trust = 'untrusted'",
            &[
                "trust = \"untrusted\" implies:",
                "  isolation = \"strict\"",
                "  tenancy = \"project\"",
                "  cgroup.mode = \"required\"",
                "  http.public = \"deny\"",
            ],
        ),
        (
            "trust = 'untrusted'\ntenancy = 'task'\n[cgroup]\nmode = 'auto'\n[http]\npublic = \
             'deny'",
            &[
                "trust = \"untrusted\" implies:",
                "  isolation = \"strict\"",
                "  tenancy = \"project\", overridden by \"task\", which is stricter",
                "  cgroup.mode = \"required\", overridden by \"auto\", which is weaker",
                "  http.public = \"deny\"",
            ],
        ),
    ] {
        let checked = check(&folder, "pool.toml", text);
        assert_eq!(checked.code, 0, "{checked:?}");
        assert_eq!(checked.stderr.lines().collect::<Vec<_>>(), said, "{text}");
        let effective = checked.json();
        let again = check(&folder, "again.json", &checked.stdout);
        assert_eq!((again.json(), again.stderr), (effective, checked.stderr), "{text}");
    }
}

/// Where the machine gives no groups that can limit, there is no pool; where it does, each worker
/// has them.
#[test]
fn an_untrusted_pool_has_control_groups_or_does_not_start_and_says_what_to_set() {
    let mut pool = Pool::launch(json!({"trust": "untrusted"}), |_| {});
    let started = until_some("a worker is ready, or the supervisor has ended", || {
        if !proc::alive(pool.pid()) {
            return Some(false);
        }
        pool.try_status().filter(|status| status["workers"]["available"] == 1).map(|_| true)
    });
    if started {
        let on = &pool.status()["isolation"]["lanes"]["js"]["on"];
        let on: Vec<&str> =
            on.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        assert!(on.contains(&"cgroup-memory") && on.contains(&"cgroup-pids"), "{on:?}");
        return;
    }
    assert_eq!(pool.wait().code(), Some(1));
    let log = pool.log();
    if log.contains("as the configuration promises") {
        println!("skipped: a layer that strict promises; see the log:\n{log}");
        return;
    }
    for words in [
        "trust = \"untrusted\" implies cgroup.mode = \"required\": failed to",
        "which cgroup.mode \"required\" asks for",
        "set cgroup.mode = \"auto\"",
    ] {
        assert!(log.contains(words), "{words}: {log}");
    }
    assert!(
        log.contains("Delegate=yes") || log.contains("no memory controller"),
        "what is missing: {log}"
    );
}

#[test]
fn an_untrusted_pool_is_strict_serves_one_project_per_worker_and_says_what_was_overridden() {
    let Some(pool) = start(untrusted(json!({}))) else { return };
    let status = pool.status();
    assert_eq!(
        status["trust"],
        json!({"value": "untrusted", "overridden": {"cgroup.mode": "auto"}})
    );
    assert_eq!(status["isolation"]["level"], "strict");
    let text = pool.ctl(&["status"]).stdout;
    assert!(text.contains("untrusted, overridden by cgroup.mode = \"auto\""), "{text}");
    assert!(
        pool.log().contains("cgroup.mode is \"auto\" instead of the implied \"required\""),
        "{}",
        pool.log()
    );
    let worker = |project: &str| {
        let outcome = pool.run(with(code("1"), json!({"projectId": project})));
        assert_eq!(outcome["status"], "succeeded", "{outcome}");
        outcome["workerId"].clone()
    };
    assert_ne!(worker("a"), worker("b"));
    let refused = pool.run(get(NOBODYS));
    assert_eq!(error(&refused), "URL_DENIED", "{refused}");
    assert!(
        refused["error"]["message"].as_str().is_some_and(|m| m.contains("`http.public` denies")),
        "{refused}"
    );
}

#[test]
fn a_trusted_pool_says_nothing_of_trust_to_people() {
    let pool = Pool::start(json!({}));
    assert_eq!(pool.status()["trust"], json!({"value": "trusted", "overridden": {}}));
    let text = pool.ctl(&["status"]).stdout;
    assert!(!text.contains("trust"), "{text}");
}

/// An address of the public internet, in a network where only we answer on it.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(8, 8, 4, 4);
const OTHER_PUBLIC: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);

#[test]
fn an_untrusted_pool_reaches_no_public_address_that_is_not_listed() {
    with_own_network(|| {
        add_address(PUBLIC);
        add_address(OTHER_PUBLIC);
        let listed = Server::at(PUBLIC, 8080, |request| match request.path.as_str() {
            "/" => Reply::text("listed"),
            to => Reply::new("302 Found", &[("Location", &format!("http:/{to}:8080/"))], ""),
        });
        let other = Server::at(OTHER_PUBLIC, 8080, |_| Reply::text("other"));
        let _names = Names::start(|_, _| vec![OTHER_PUBLIC]);
        let Some(pool) = start(untrusted(json!({"http": {"allow": ["8.8.4.4:8080"]}}))) else {
            return;
        };
        assert_eq!(result(pool.run(get("http://8.8.4.4:8080/")))["data"], "listed");
        for url in [
            "http://8.8.8.8:8080/",
            "http://other.example:8080/",
            "http://8.8.4.4:8080/8.8.8.8",
            "http://8.8.4.4:8080/other.example",
        ] {
            assert_eq!(error(&pool.run(get(url))), "URL_DENIED", "{url}");
        }
        assert_eq!((listed.seen().len(), other.seen().len()), (3, 0));
        // The same with the one setting overridden: the server would have answered.
        let open = json!({"http": {"allow": ["8.8.4.4:8080"], "public": "allow"}});
        let Some(open) = start(untrusted(open)) else { return };
        assert_eq!(result(open.run(get("http://other.example:8080/")))["data"], "other");
    });
}

#[test]
fn a_reload_changes_the_trust_as_far_as_what_it_implies_may_change() {
    let trusted = |more| with(json!({"pool": {"minWorkers": 1, "maxWorkers": 2}}), more);
    let Some(pool) = start(trusted(json!({"isolation": "strict", "cgroup": {"mode": "off"}})))
    else {
        return;
    };
    let open = pool.run(with(get(NOBODYS), json!({"timeout": 5000})));
    assert_ne!(error(&open), "URL_DENIED", "it is dialled, and there is no way there: {open}");
    pool.configure(trusted(json!({"trust": "untrusted"})));
    let refused = pool.ctl(&["reload"]);
    assert_ne!(refused.code, 0);
    for words in [
        "cgroup cannot change while the supervisor runs",
        "trust = \"untrusted\" makes cgroup.mode \"required\"",
        "keep the present mode with cgroup.mode = \"off\"",
    ] {
        assert!(refused.stderr.contains(words), "{words}: {refused:?}");
    }
    assert_eq!(pool.status()["trust"]["value"], "trusted", "the old configuration stays");
    pool.configure(trusted(json!({"trust": "untrusted", "cgroup": {"mode": "off"}})));
    pool.ask(&ControlRequest::Reload);
    let status = pool.status();
    assert_eq!(
        status["trust"],
        json!({"value": "untrusted", "overridden": {"cgroup.mode": "off"}})
    );
    assert_eq!(status["isolation"]["level"], "strict");
    until("requests are refused as the new trust implies", || {
        let outcome = pool.run(get(NOBODYS));
        outcome["error"]["message"].as_str().is_some_and(|m| m.contains("`http.public` denies"))
    });
}
