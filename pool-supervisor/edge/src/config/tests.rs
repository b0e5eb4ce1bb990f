//! What is accepted, what is refused and how, and what comes out of it.

use std::path::PathBuf;

use serde_json::json;

use super::*;

fn accept(json: &str) -> Config {
    let tree = serde_json::from_str(json).unwrap_or_else(|e| panic!("{json}: {e}"));
    read::config(tree, 2).unwrap_or_else(|p| panic!("{json}: {} {}", p.key, p.problem))
}

fn refuse(json: &str) -> String {
    let tree = serde_json::from_str(json).unwrap_or_else(|e| panic!("{json}: {e}"));
    match read::config(tree, 2) {
        Ok(_) => panic!("{json} was accepted"),
        Err(problem) => format!("{} {}", problem.key, problem.problem),
    }
}

/// A file in a folder of its own; the folder goes with the guard.
fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("written");
    (folder, path)
}

#[test]
fn without_a_file_the_pool_has_one_worker_at_least_and_one_per_cpu_at_most() {
    let config = Config::load(None).expect("defaults");
    let cpus = std::thread::available_parallelism().expect("known").get();
    assert_eq!((config.pool.min_workers, config.pool.max_workers as usize), (1, cpus.min(4096)));
    assert_eq!(accept("{}"), Config::with_defaults(2));
}

#[test]
fn the_originals_worker_settings_are_accepted_as_they_stand() {
    let config = accept(
        r#"{"daemon":{"worker":{"minProcesses":1,"maxProcesses":4,"autoScale":true,"scaleUpThreshold":0.8,
            "scaleDownThreshold":0.2,"maxTasksPerWorker":50,"workerIdleTimeout":30000}}}"#,
    );
    let pool = &config.pool;
    assert_eq!((pool.min_workers, pool.max_workers, pool.auto_scale), (1, 4, true));
    assert_eq!((pool.scale_up_threshold, pool.scale_down_threshold), (0.8, 0.2));
    assert_eq!((pool.max_tasks_per_worker, pool.worker_idle_timeout_ms), (50, 30_000));
    let renamed = accept(r#"{"daemon":{"worker":{"minWorkers":2,"maxWorkers":3}}}"#);
    assert_eq!((renamed.pool.min_workers, renamed.pool.max_workers), (2, 3));
}

#[test]
fn bounds_that_are_not_given_make_room_for_those_that_are() {
    let counts = |json| {
        let pool = accept(json).pool;
        (pool.min_workers, pool.max_workers)
    };
    assert_eq!(counts(r#"{"pool":{"minWorkers":8}}"#), (8, 8));
    assert_eq!(counts(r#"{"pool":{"maxWorkers":1}}"#), (1, 1));
    assert_eq!(counts(r#"{"pool":{"maxWorkers":9}}"#), (1, 9));
    assert_eq!(
        counts(r#"{"daemon":{"worker":{"minProcesses":3}},"pool":{"maxWorkers":4}}"#),
        (3, 4)
    );
}

#[test]
fn times_and_sizes_are_numbers_or_texts_with_a_unit() {
    let config = accept(
        r#"{"pool":{"maxWorkerAge":"2h","drainTimeout":5000,"maxMemoryPerWorker":"1GiB","resultTtl":"30s"},
            "limits":{"memoryBytes":67108864,"timeout":"1.5s","bodyBytes":"1MiB"}}"#,
    );
    assert_eq!((config.pool.max_worker_age_ms, config.pool.drain_timeout_ms), (7_200_000, 5000));
    assert_eq!((config.pool.max_memory_per_worker, config.pool.result_ttl_ms), (1 << 30, 30_000));
    let limits = &config.limits;
    assert_eq!(
        (limits.memory_bytes, limits.timeout_ms, limits.body_bytes),
        (64 << 20, 1500, 1 << 20)
    );
}

#[test]
fn a_bad_setting_is_refused_naming_its_key() {
    for (json, message) in [
        ("[]", "the file must hold one table of settings, not a list"),
        (
            r#"{"pool":{"maxWorker":2}}"#,
            "pool.maxWorker is not known; did you mean pool.maxWorkers?",
        ),
        (r#"{"pol":{}}"#, "pol is not known; did you mean pool?"),
        (r#"{"maxWorkers":2}"#, "maxWorkers is not known; did you mean pool.maxWorkers?"),
        (r#"{"pool":{"timeout":2}}"#, "pool.timeout is not known; did you mean limits.timeout?"),
        (r#"{"pool":5}"#, "pool must be a table of settings, not 5"),
        (
            r#"{"pool":{"minWorkers":0}}"#,
            "pool.minWorkers must be a whole number from 1 to 4096, not 0",
        ),
        (
            r#"{"pool":{"maxWorkers":1000000000}}"#,
            "pool.maxWorkers must be a whole number from 1 to 4096",
        ),
        (
            r#"{"pool":{"maxWorkers":2.5}}"#,
            "pool.maxWorkers must be a whole number from 1 to 4096, not 2.5",
        ),
        (
            r#"{"pool":{"maxWorkers":-1}}"#,
            "pool.maxWorkers must be a whole number from 1 to 4096, not -1",
        ),
        (
            r#"{"pool":{"maxWorkers":"4"}}"#,
            r#"pool.maxWorkers must be a whole number from 1 to 4096, not "4""#,
        ),
        (
            r#"{"pool":{"maxWorkers":null}}"#,
            "pool.maxWorkers must be a whole number from 1 to 4096, not null",
        ),
        (
            r#"{"pool":{"minWorkers":4,"maxWorkers":2}}"#,
            "pool.minWorkers must be at most pool.maxWorkers (2), not 4",
        ),
        (
            r#"{"pool":{"minWorkers":4},"daemon":{"worker":{"maxProcesses":2}}}"#,
            "pool.minWorkers must be at most daemon.worker.maxProcesses (2), not 4",
        ),
        (
            r#"{"pool":{"minWorkers":1},"daemon":{"worker":{"minProcesses":1}}}"#,
            "pool.minWorkers is the same setting as daemon.worker.minProcesses; give one of them",
        ),
        (
            r#"{"daemon":{"worker":{"maxProcesses":1,"maxWorkers":1}}}"#,
            "daemon.worker.maxWorkers is the same setting as daemon.worker.maxProcesses; give one \
             of them",
        ),
        (
            r#"{"daemon":{"worker":{"minProceses":1}}}"#,
            "daemon.worker.minProceses is not known; did you mean daemon.worker.minProcesses?",
        ),
        (r#"{"daemon":{"port":1}}"#, "daemon.port is not known; known here: worker"),
        (r#"{"pool":{"queueSize":1,"queueSize":2}}"#, "pool.queueSize is given twice"),
        (r#"{"pool":{},"pool":{}}"#, "pool is given twice"),
        (r#"{"pool":{"autoScale":"yes"}}"#, r#"pool.autoScale must be true or false, not "yes""#),
        (
            r#"{"pool":{"scaleUpThreshold":0.1}}"#,
            "pool.scaleUpThreshold must be over scaleDownThreshold (0.2), not 0.1",
        ),
        (
            r#"{"pool":{"scaleDownThreshold":0.9}}"#,
            "pool.scaleDownThreshold must be below scaleUpThreshold (0.8)",
        ),
        (r#"{"pool":{"scaleDownThreshold":0}}"#, "pool.scaleDownThreshold must be over 0"),
        (
            r#"{"pool":{"scaleUpThreshold":1001}}"#,
            "pool.scaleUpThreshold must be a number from 0 to 1000, not 1001",
        ),
        (r#"{"pool":{"scaleUpThreshold":"high"}}"#, "pool.scaleUpThreshold must be a number, not"),
        (
            r#"{"pool":{"maxMemoryPerWorker":"1MiB"}}"#,
            "pool.maxMemoryPerWorker must be at least 32MiB, or 0 for never",
        ),
        (r#"{"pool":{"maxMemoryPerWorker":"lots"}}"#, "pool.maxMemoryPerWorker is malformed"),
        (r#"{"pool":{"maxWorkerAge":"soon"}}"#, "pool.maxWorkerAge is malformed"),
        (
            r#"{"pool":{"heartbeatInterval":1}}"#,
            "pool.heartbeatInterval must be a time from 50ms to 1h, not 1",
        ),
        (r#"{"pool":{"spawnTimeout":true}}"#, "pool.spawnTimeout must be a time"),
        (
            r#"{"pool":{"drainTimeout":-5}}"#,
            "pool.drainTimeout must be a time from 0 to 30d, not -5",
        ),
        (r#"{"pool":{"queueBytes":1000}}"#, "pool.queueBytes"),
        (
            r#"{"pool":{"queueSize":0}}"#,
            "pool.queueSize must be a whole number from 1 to 10000000, not 0",
        ),
        (r#"{"limits":{"timeout":0}}"#, "limits.timeout must be a time from 1ms to 30d, not 0"),
        (
            r#"{"limits":{"memoryBytes":"1MiB"}}"#,
            "limits.memoryBytes must be a size from 4MiB to 64GiB",
        ),
        (
            r#"{"limits":{"bodyBytes":"1GiB"}}"#,
            "limits.bodyBytes must be a size from 1KiB to 256MiB",
        ),
        (r#"{"limits":{"openFiles":3}}"#, "limits.openFiles must be a whole number from 32"),
        (
            r#"{"isolation":"none"}"#,
            r#"isolation must be "strict" or "standard" or "off", not "none""#,
        ),
        (r#"{"cgroup":"off"}"#, r#"cgroup must be a table of settings, not "off""#),
        (
            r#"{"cgroup":{"mode":"on"}}"#,
            r#"cgroup.mode must be "auto" or "required" or "off", not "on""#,
        ),
        (r#"{"cgroup":{"path":"pool"}}"#, r#"cgroup.path must be an absolute path, not "pool""#),
        (r#"{"cgroup":{"path":"/nonexistent"}}"#, "cgroup.path names /nonexistent: No such file"),
        (
            r#"{"cgroup":{"path":"/usr","mode":"off"}}"#,
            r#"cgroup.path names a control group, but cgroup.mode is "off""#,
        ),
        (
            r#"{"limits":{"processes":0}}"#,
            "limits.processes must be a whole number from 1 to 1000000, not 0",
        ),
        (r#"{"limits":{"cpus":0}}"#, "limits.cpus must be a number from 0.01 to 4096, not 0"),
        (
            r#"{"shell":{"writable":["tmp"]}}"#,
            r#"shell.writable[0] must be an absolute path, not "tmp""#,
        ),
        (
            r#"{"shell":{"readable":["/nonexistent"]}}"#,
            "shell.readable[0] names /nonexistent: No such file",
        ),
        (
            r#"{"tenancy":"dedicated"}"#,
            r#"tenancy must be "shared" or "project" or "task", not "dedicated""#,
        ),
        (r#"{"workerPath":"pool-worker"}"#, "workerPath must be an absolute path"),
        (r#"{"workerPath":"/no/such/worker"}"#, "workerPath names /no/such/worker: No such file"),
        (r#"{"projects":{"a b":{}}}"#, r#"projects."a b" is no project id"#),
        (r#"{"projects":{"a":{"limit":-1}}}"#, "projects.a.limit must be a whole number from 0"),
        (
            r#"{"projects":{"a.b":{"weight":0}}}"#,
            r#"projects."a.b".weight must be a number from 0.001 to 1000, not 0"#,
        ),
        (
            r#"{"projects":{"a":{"wieght":1}}}"#,
            "projects.a.wieght is not known; did you mean projects.a.weight?",
        ),
        (
            r#"{"projects":{"a":{"realm":"cold"}}}"#,
            r#"projects.a.realm must be "fresh" or "warm" or "frozen""#,
        ),
        (
            r#"{"projects":{"a":{"realm":"warm","forbidWarm":true}}}"#,
            r#"projects.a.realm is "warm""#,
        ),
        (
            r#"{"js":{"moduleRoots":"/srv"}}"#,
            r#"js.moduleRoots must be a list of folders, not "/srv""#,
        ),
        (r#"{"js":{"moduleRoots":["srv"]}}"#, "js.moduleRoots[0] must be an absolute path"),
        (
            r#"{"js":{"moduleRoots":["/","/no/such"]}}"#,
            "js.moduleRoots[1] names /no/such: No such file",
        ),
        (
            r#"{"js":{"conditions":"browser"}}"#,
            r#"js.conditions must be a list of conditions, not "browser""#,
        ),
        (r#"{"js":{"conditions":[""]}}"#, "js.conditions[0] must be the name of a condition"),
        (r#"{"js":{"conditions":["a","import"]}}"#, r#"js.conditions[1] must not be "import""#),
        (r#"{"js":{"nodeEnv":1}}"#, r#"js.nodeEnv must be a text such as "production", or "none""#),
        (r#"{"js":{"moduleRoots":["/dev/null"]}}"#, "js.moduleRoots[0] must be a folder"),
        (r#"{"shell":{"allow":[{}]}}"#, "shell.allow[0] has no `program`"),
        (
            r#"{"shell":{"allow":[{"programm":"/bin/sh"}]}}"#,
            "shell.allow[0].programm is not known; did you mean",
        ),
        (
            r#"{"shell":{"allow":[{"program":"sh"}]}}"#,
            "shell.allow[0].program must be an absolute path",
        ),
        (
            r#"{"shell":{"allow":[{"program":"/etc/passwd"}]}}"#,
            "shell.allow[0].program must be an executable file",
        ),
        (
            r#"{"shell":{"allow":[{"program":"/bin/sh","args":"("}]}}"#,
            "shell.allow[0].args is no pattern",
        ),
        (
            r#"{"shell":{"allow":[{"program":"/bin/sh","args":"a)(b"}]}}"#,
            "shell.allow[0].args is no pattern",
        ),
        (
            r#"{"shell":{"allow":[{"program":"/bin/sh"},{"program":"/bin/sh"}]}}"#,
            "shell.allow[1] names /bin/sh a second",
        ),
        (r#"{"shell":{"env":{"A=B":"x"}}}"#, r#"shell.env."A=B" is no name of a variable"#),
        (r#"{"shell":{"env":{"A":1}}}"#, "shell.env.A must be a text, not 1"),
        (r#"{"shell":{"env":{"A":"\u0000"}}}"#, "shell.env.A must not contain a zero byte"),
        (
            r#"{"shell":{"taskEnv":"LANG"}}"#,
            r#"shell.taskEnv must be a list of names of variables, not "LANG""#,
        ),
        (
            r#"{"shell":{"taskEnv":["A","*"]}}"#,
            "shell.taskEnv[1] must be the name of a variable, or its beginning",
        ),
        (
            r#"{"shell":{"taskEnv":["A*B"]}}"#,
            "shell.taskEnv[0] must be the name of a variable, or its beginning",
        ),
        (
            r#"{"shell":{"taskEnv":["A=B"]}}"#,
            "shell.taskEnv[0] must be the name of a variable, or its beginning",
        ),
        (
            r#"{"shell":{"taskEnv":["A"],"env":{"A":"x"}}}"#,
            "shell.taskEnv[0] names A, which shell.env sets",
        ),
        (
            r#"{"shell":{"sockets":["db.sock"]}}"#,
            r#"shell.sockets[0] must be an absolute path, not "db.sock""#,
        ),
        (
            r#"{"shell":{"killAfter":"2h"}}"#,
            r#"shell.killAfter must be a time from 0 to 1h, not "2h""#,
        ),
        (
            r#"{"shell":{"umask":22}}"#,
            r#"shell.umask must be three octal digits such as "022", not 22"#,
        ),
        (
            r#"{"shell":{"umask":"088"}}"#,
            r#"shell.umask must be three octal digits such as "022", not "088""#,
        ),
        (
            r#"{"shell":{"umask":"1022"}}"#,
            r#"shell.umask must be three octal digits such as "022", not "1022""#,
        ),
        (r#"{"shell":{"cwd":"/no/such"}}"#, "shell.cwd names /no/such: No such file"),
        (r#"{"http":{"listen":"45678"}}"#, r#"http.listen must be "off" or ADDRESS:PORT"#),
        (r#"{"http":{"listen":false}}"#, r#"http.listen must be "off" or ADDRESS:PORT, not false"#),
        (r#"{"http":{"keyFile":"api.key"}}"#, "http.keyFile must be an absolute path"),
        (r#"{"http":{"socket":"sock"}}"#, "http.socket must be an absolute path"),
        (r#"{"http":{"allow":["127.1"]}}"#, "http.allow[0] must be ADDRESS"),
        (r#"{"trust":"none"}"#, r#"trust must be "trusted" or "untrusted", not "none""#),
        (r#"{"trust":false}"#, r#"trust must be "trusted" or "untrusted", not false"#),
        (
            r#"{"trust":{"untrusted":true}}"#,
            r#"trust must be "trusted" or "untrusted", not a table"#,
        ),
        (r#"{"Trust":"untrusted"}"#, "Trust is not known; did you mean trust?"),
        (
            r#"{"trust":"untrusted","isolation":"lax"}"#,
            r#"isolation must be "strict" or "standard" or "off""#,
        ),
        (r#"{"http":{"public":"no"}}"#, r#"http.public must be "allow" or "deny", not "no""#),
        (r#"{"http":{"public":false}}"#, r#"http.public must be "allow" or "deny", not false"#),
        (r#"{"log":{"level":"loud"}}"#, r#"log.level must be "error" or "warn""#),
        (r#"{"log":{"format":"xml"}}"#, r#"log.format must be "auto" or "json" or "text""#),
    ] {
        let said = refuse(json);
        assert!(said.starts_with(message), "{json}\n said: {said}\n want: {message}");
    }
}

#[test]
fn a_socket_path_that_is_too_long_is_refused_with_its_length() {
    let said = refuse(&format!(r#"{{"http":{{"socket":"/{}"}}}}"#, "x".repeat(120)));
    assert!(said.starts_with("http.socket is too long") && said.contains("121 bytes"), "{said}");
}

#[test]
fn both_formats_say_the_same() {
    let (_json_folder, json) = file(
        "pool.json",
        r#"{"pool":{"minWorkers":2,"maxWorkers":3,"maxWorkerAge":"1m"},"projects":{"p":{"limit":5,"weight":2}},
            "shell":{"allow":[{"program":"/bin/sh","args":"-c"}],"env":{"LANG":"C"}}}"#,
    );
    let (_toml_folder, toml) = file(
        "pool.toml",
        "[pool]\nminWorkers = 2\nmaxWorkers = 3\nmaxWorkerAge = '1m'\n[projects.p]\nlimit = \
         5\nweight = 2\n\
         [[shell.allow]]\nprogram = '/bin/sh'\nargs = '-c'\n[shell.env]\nLANG = 'C'\n",
    );
    let config = Config::load(Some(&json)).expect("JSON");
    assert_eq!(config, Config::load(Some(&toml)).expect("TOML"));
    assert_eq!((config.pool.min_workers, config.projects["p"].limit), (2, Some(5)));
}

#[test]
fn a_file_that_is_not_of_its_format_is_refused_with_the_place() {
    for (name, text, message) in [
        ("a.json", "{\"pool\":\n}", "is no JSON: expected value at line 2"),
        (
            "a.json",
            "{\"pool\":{\"scaleUpThreshold\":1e400}}",
            "is no JSON: number out of range at line 1",
        ),
        ("a.toml", "[pool]\nminWorkers = \n", "is no TOML: TOML parse error at line 2"),
        (
            "a.toml",
            "[pool]\nminWorkers = 1\nminWorkers = 2\n",
            "is no TOML: TOML parse error at line 3",
        ),
        (
            "a.toml",
            "[pool]\nminWorker = 1\n",
            "pool.minWorker is not known; did you mean pool.minWorkers?",
        ),
        ("a.toml", "[pool]\nmaxWorkerAge = 2020-01-01\n", "pool.maxWorkerAge must be a time"),
        ("a.yaml", "pool:", "its name must end in .json or .toml"),
        ("json", "{}", "its name must end in .json or .toml"),
    ] {
        let (_folder, path) = file(name, text);
        let said = Config::load(Some(&path)).expect_err(text).to_string();
        assert!(
            said.contains(message) && said.contains(path.to_str().unwrap()),
            "{text}\n said: {said}"
        );
    }
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let (_folder, path) = file("deep.json", &deep);
    assert!(matches!(Config::load(Some(&path)), Err(ConfigError::Syntax { .. })));
    let missing = Config::load(Some(Path::new("/no/such.json"))).expect_err("no file");
    assert!(
        missing
            .to_string()
            .starts_with("failed to read the configuration /no/such.json: No such file"),
        "{missing}"
    );
    let (_folder, large) = file("large.json", &" ".repeat(4 * 1024 * 1024 + 1));
    assert!(matches!(Config::load(Some(&large)), Err(ConfigError::TooLarge { .. })));
}

const FULL: &str = r#"{
    "pool":{"minWorkers":1,"maxWorkers":4,"autoScale":false,"scaleUpThreshold":0.9,"scaleDownThreshold":0.3,
        "scaleCooldown":"2s","maxTasksPerWorker":10,"maxMemoryPerWorker":"64MiB","maxWorkerAge":"1m",
        "workerIdleTimeout":"5s","heartbeatInterval":100,"spawnTimeout":"3s","drainTimeout":"1s","queueSize":50,"queueBytes":"2MiB",
        "resultTtl":"2m","priorityAgeing":"20s","setAside":"1m"},
    "limits":{"timeout":"3s","cpuMs":1000,"memoryBytes":"64MiB","resultBytes":"1MiB","bodyBytes":"2MiB","openFiles":40,
        "fileBytes":"1MiB","processes":9,"cpus":1.5},
    "trust":"untrusted","isolation":"off","cgroup":{"mode":"required","path":"/usr"},"tenancy":"project","workerPath":"/bin/sh",
    "projects":{"a.b":{"limit":0,"weight":2.5,"maxQueued":7,"realm":"fresh","forbidWarm":true},"c":{"realm":"warm"}},
    "js":{"moduleRoots":["/usr"],"conditions":["edge"],"nodeEnv":"none","allowCodeGeneration":true,"allowWasm":true},
    "shell":{"allow":[{"program":"/bin/sh","args":"-[a-z]"},{"program":"/usr/bin/env"}],"env":{"LANG":"C"},
        "taskEnv":["TZ","APP_*"],"cwd":"/usr","readable":["/usr","/etc/passwd"],"writable":["/tmp"],
        "sockets":["/run/db.sock"],"killAfter":"5s","umask":"0027"},
    "http":{"listen":"[::1]:80","socket":"/run/x.sock","keyFile":"/run/x.key","public":"deny","allow":["10.1.0.0/16","a.b:1"]},
    "log":{"level":"debug","format":"json"}}"#;

#[test]
fn the_effective_configuration_loads_to_the_same_again() {
    for json in [
        "{}",
        FULL,
        r#"{"http":{"listen":"off","socket":"off"}}"#,
        r#"{"trust":"trusted"}"#,
        r#"{"trust":"untrusted"}"#,
        r#"{"trust":"untrusted","isolation":"standard","tenancy":"task","cgroup":{"mode":"auto"},"http":{"public":"allow"}}"#,
    ] {
        let config = accept(json);
        let again = accept(&config.effective_json());
        assert_eq!(again, config, "{json}");
        assert_eq!(again.trust_report(), config.trust_report(), "{json}");
        assert_eq!(again.notices(), config.notices(), "{json}");
    }
}

/// The settings that a trust decides.
fn decided(json: &str) -> (Level, Tenancy, CgroupMode, PublicAddresses) {
    let config = accept(json);
    (config.isolation, config.tenancy, config.cgroup.mode, config.http.public)
}

#[test]
fn trust_untrusted_implies_four_settings_and_trusted_none() {
    let defaults = (Level::Standard, Tenancy::Shared, CgroupMode::Auto, PublicAddresses::Allow);
    let strict = (Level::Strict, Tenancy::Project, CgroupMode::Required, PublicAddresses::Deny);
    assert_eq!(decided("{}"), defaults);
    assert_eq!(decided(r#"{"trust":"trusted"}"#), defaults);
    assert_eq!(accept(r#"{"trust":"trusted"}"#), accept("{}"));
    assert_eq!(decided(r#"{"trust":"untrusted"}"#), strict);
    // Nothing else changes.
    let (mut untrusted, plain) = (accept(r#"{"trust":"untrusted"}"#), accept("{}"));
    untrusted.trust = plain.trust;
    (untrusted.isolation, untrusted.tenancy) = (plain.isolation, plain.tenancy);
    (untrusted.cgroup.mode, untrusted.http.public) = (plain.cgroup.mode, plain.http.public);
    assert_eq!(untrusted, plain);
}

#[test]
fn each_setting_that_trust_implies_is_overridden_by_giving_it_wherever_it_stands_in_the_file() {
    let strict = decided(r#"{"trust":"untrusted"}"#);
    for (given, expected) in [
        (r#""isolation":"standard""#, (Level::Standard, strict.1, strict.2, strict.3)),
        (r#""tenancy":"shared""#, (strict.0, Tenancy::Shared, strict.2, strict.3)),
        (r#""tenancy":"task""#, (strict.0, Tenancy::Task, strict.2, strict.3)),
        (r#""cgroup":{"mode":"auto"}"#, (strict.0, strict.1, CgroupMode::Auto, strict.3)),
        (r#""http":{"public":"allow"}"#, (strict.0, strict.1, strict.2, PublicAddresses::Allow)),
        (r#""isolation":"strict""#, strict),
        (r#""cgroup":{"path":"/usr"}"#, strict),
        (r#""http":{"allow":["a.example"]}"#, strict),
    ] {
        assert_eq!(decided(&format!(r#"{{"trust":"untrusted",{given}}}"#)), expected, "{given}");
        assert_eq!(decided(&format!(r#"{{{given},"trust":"untrusted"}}"#)), expected, "{given}");
    }
}

#[test]
fn what_trust_implies_is_told_with_what_overrides_it() {
    assert!(accept("{}").trust_report().is_empty());
    assert_eq!(
        accept(r#"{"trust":"untrusted"}"#).trust_report(),
        [
            r#"trust = "untrusted" implies:"#,
            r#"  isolation = "strict""#,
            r#"  tenancy = "project""#,
            r#"  cgroup.mode = "required""#,
            r#"  http.public = "deny""#,
        ]
    );
    let overridden = accept(r#"{"trust":"untrusted","cgroup":{"mode":"off"},"tenancy":"task"}"#);
    assert_eq!(
        overridden.trust_report()[2..4],
        [
            r#"  tenancy = "project", overridden by "task", which is stricter"#,
            r#"  cgroup.mode = "required", overridden by "off", which is weaker"#,
        ]
    );
    let keys: Vec<_> =
        overridden.implied().into_iter().filter(Implied::is_overridden).map(|s| s.key).collect();
    assert_eq!(keys, ["tenancy", "cgroup.mode"]);
    for implied in overridden.implied() {
        assert!(keys::KEYS.iter().any(|key| key.path == implied.key), "{}", implied.key);
    }
}

#[test]
fn the_example_is_one_for_strangers_by_its_one_line() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/config.example.toml"));
    let text = std::fs::read_to_string(path).expect("the example is part of the project");
    let untrusted = text.replace("# trust = \"untrusted\"", "trust = \"untrusted\"");
    assert_ne!(untrusted, text);
    let config = Config::from_text(path, &untrusted).expect("it is sound");
    assert!(!config.implied().iter().any(Implied::is_overridden), "{:?}", config.trust_report());
    assert_eq!(config.trust, Trust::Untrusted);
}

#[test]
fn whoever_weakens_what_trust_implies_is_warned_for_each_setting() {
    assert!(accept(r#"{"trust":"untrusted"}"#).notices().is_empty());
    assert!(
        accept(r#"{"trust":"untrusted","tenancy":"task"}"#).notices().is_empty(),
        "stricter is no trouble"
    );
    let weak = accept(
        r#"{"trust":"untrusted","isolation":"standard","tenancy":"shared","cgroup":{"mode":"auto"},"http":{"public":"allow"}}"#,
    );
    let notices = weak.notices();
    assert_eq!(notices.len(), 4, "{notices:?}");
    assert_eq!(
        notices[3],
        r#"trust is "untrusted", but http.public is "allow" instead of the implied "deny", so requests reach every public address"#
    );
    assert_eq!(accept(r#"{"trust":"untrusted","isolation":"off"}"#).notices().len(), 2);
    let programs = r#""shell":{"allow":[{"program":"/bin/sh"}]}"#;
    assert!(accept(&format!(r#"{{"trust":"untrusted",{programs}}}"#)).notices().is_empty());
    let sockets = r#""shell":{"allow":[{"program":"/bin/sh"}],"sockets":["/run/db.sock"]}"#;
    let notices = accept(&format!(r#"{{"trust":"untrusted",{sockets}}}"#)).notices();
    assert!(
        notices.len() == 1 && notices[0].contains("shell.sockets lists sockets"),
        "{notices:?}"
    );
    assert!(accept(&format!("{{{sockets}}}")).notices().is_empty());
}

#[test]
fn every_known_key_is_read_and_shown() {
    let shown: serde_json::Value =
        serde_json::from_str(&accept(FULL).effective_json()).expect("JSON");
    let mut paths = std::collections::BTreeSet::new();
    for (section, below) in shown.as_object().expect("a table") {
        match below.as_object() {
            None => drop(paths.insert(section.clone())),
            Some(table) if section == "projects" => {
                paths.extend(
                    table["a.b"]
                        .as_object()
                        .unwrap()
                        .keys()
                        .map(|name| format!("projects.*.{name}")),
                );
            }
            Some(table) => paths.extend(table.keys().map(|name| format!("{section}.{name}"))),
        }
    }
    let known: std::collections::BTreeSet<_> =
        keys::KEYS.iter().map(|key| key.path.to_owned()).collect();
    assert_eq!(paths, known);
}

/// The rows of all tables of a page with these titles.
fn rows(page: &str, titles: &str) -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page);
    let page = std::fs::read_to_string(page).expect("the page is part of the project");
    let tables = page.split(titles).skip(1).map(|rest| rest.lines().skip(2));
    tables
        .flat_map(|lines| lines.take_while(|line| line.starts_with('|')).map(str::to_owned))
        .collect()
}

#[test]
fn the_page_about_the_configuration_has_every_key_as_the_code_has_it_and_no_other() {
    let row = |key: &keys::Key| {
        format!("| `{}` | {} | {} |", key.path.replace('*', "<id>"), key.default, key.meaning)
    };
    let known: Vec<String> = keys::KEYS.iter().map(row).collect();
    assert_eq!(rows("configuration.md", "| key | default | meaning |"), known);
}

#[test]
fn the_page_about_migrating_has_every_name_of_the_original() {
    let listed = rows("migrating.md", "| original | here | default here | difference in meaning |");
    let names = listed.iter().map(|row| {
        let mut cells = row.split('`').skip(1).step_by(2);
        (cells.next().expect("a name").to_owned(), cells.next().expect("a name").to_owned())
    });
    let known = keys::ORIGINAL_NAMES
        .iter()
        .map(|(theirs, ours)| (format!("{}.{theirs}", keys::ORIGINAL), format!("pool.{ours}")));
    assert_eq!(names.collect::<Vec<_>>(), known.collect::<Vec<_>>());
    for key in keys::KEYS {
        let named = listed.iter().filter(|row| row.contains(&format!("| `{}` |", key.path)));
        for row in named {
            let default = row.split(" | ").nth(2).expect("a cell");
            let ours = key.default.split(',').next().expect("a piece");
            assert!(
                default.starts_with(ours),
                "{row}\n says {default}, the key's default is {}",
                key.default
            );
        }
    }
}

#[test]
fn whoever_turns_confinement_off_is_told_what_that_means() {
    assert!(accept("{}").notices().is_empty());
    assert!(accept(r#"{"isolation":"strict"}"#).notices().is_empty());
    let notices = accept(r#"{"isolation":"off"}"#).notices();
    assert!(notices[0].contains("for code that is trusted"), "{notices:?}");
}

#[test]
fn programs_may_write_where_they_start_unless_that_is_everywhere() {
    let writable =
        |json| accept(json).worker_setup(Lane::Io, String::new(), None).isolation.writable;
    assert!(writable("{}").is_empty());
    assert_eq!(writable(r#"{"shell":{"cwd":"/usr"}}"#), ["/usr"]);
    assert_eq!(
        writable(r#"{"shell":{"cwd":"/","writable":["/tmp","/etc/passwd"]}}"#),
        ["/tmp", "/etc/passwd"]
    );
    let readable = accept(r#"{"shell":{"readable":["/etc/passwd"]}}"#);
    assert_eq!(
        readable.worker_setup(Lane::Io, String::new(), None).isolation.readable,
        ["/etc/passwd"]
    );
}

#[test]
fn the_core_is_told_what_was_set() {
    let settings = accept(FULL).core_settings();
    assert_eq!((settings.min_workers, settings.max_workers, settings.auto_scale), (1, 4, false));
    assert_eq!((settings.queue_size, settings.queue_bytes), (50, 2 << 20));
    assert_eq!(
        (settings.queue_size, settings.timeout_ms, settings.priority_ageing_ms),
        (50, 3000, 20_000)
    );
    let project = settings.projects["a.b"];
    assert_eq!((project.limit, project.weight, project.max_queued), (Some(0), 2.5, Some(7)));
}

#[test]
fn a_worker_is_told_the_file_that_was_meant_not_only_its_name() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let link = folder.path().join("shell");
    std::os::unix::fs::symlink("/bin/sh", &link).expect("linked");
    let config = accept(&format!(r#"{{"shell":{{"allow":[{{"program":{link:?}}}]}}}}"#));
    let setup = config.worker_setup(Lane::Io, "w1.1".into(), None);
    let program = &setup.shell.allow[0];
    assert_eq!(program.program, link.to_str().unwrap());
    assert_eq!(Path::new(&program.resolved), Path::new("/bin/sh").canonicalize().unwrap());
    use std::os::unix::fs::MetadataExt;
    let meant = std::fs::metadata("/bin/sh").unwrap();
    assert_eq!((program.device, program.inode), (meant.dev(), meant.ino()));
    assert_eq!((setup.shell.cwd.as_deref(), setup.shell.file_bytes), (Some("/"), 1 << 30));
}

#[test]
fn module_roots_are_made_canonical_and_keep_their_names() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let link = folder.path().join("root");
    std::os::unix::fs::symlink("/usr", &link).expect("linked");
    let config = accept(&format!(r#"{{"js":{{"moduleRoots":[{link:?}]}}}}"#));
    let js = config.worker_setup(Lane::Js, String::new(), None).js;
    assert_eq!(js.module_roots, ["/usr"]);
    assert_eq!(
        js.module_links,
        [(link.to_str().expect("UTF-8").to_owned(), "/usr".to_owned())].into()
    );
    let js = accept(r#"{"js":{"moduleRoots":["/usr/"]}}"#)
        .worker_setup(Lane::Js, String::new(), None)
        .js;
    assert!(js.module_links.is_empty(), "{js:?}");
}

#[test]
fn conditions_and_the_node_env_are_told_to_the_worker() {
    let js = |json: &str| accept(json).worker_setup(Lane::Js, String::new(), None).js;
    let plain = js("{}");
    assert_eq!(
        (plain.conditions, plain.node_env.as_deref()),
        (vec!["worker".to_owned(), "browser".to_owned()], Some("production"))
    );
    let given = js(r#"{"js":{"conditions":["edge"],"nodeEnv":"development"}}"#);
    assert_eq!(
        (given.conditions, given.node_env.as_deref()),
        (vec!["edge".to_owned()], Some("development"))
    );
    let none = js(r#"{"js":{"conditions":[],"nodeEnv":"none"}}"#);
    assert_eq!((none.conditions, none.node_env), (Vec::<String>::new(), None));
}

#[test]
fn a_tasks_realm_is_its_own_wish_then_its_projects_then_its_types() {
    let config = accept(
        r#"{"projects":{"w":{"realm":"warm"},"f":{"realm":"fresh"},"no":{"forbidWarm":true},
            "z":{"realm":"frozen"},"nz":{"realm":"frozen","forbidWarm":true}}}"#,
    );
    let realm = |project, kind, asked| config.realm_for(project, kind, asked);
    assert_eq!(realm("x", TaskKind::Code, None), Ok(Realm::Fresh));
    assert_eq!(realm("x", TaskKind::Function, None), Ok(Realm::Warm));
    assert_eq!(realm("x", TaskKind::Code, Some(Realm::Warm)), Ok(Realm::Warm));
    assert_eq!(realm("w", TaskKind::Code, None), Ok(Realm::Warm));
    assert_eq!(realm("w", TaskKind::Code, Some(Realm::Fresh)), Ok(Realm::Fresh));
    assert_eq!(realm("f", TaskKind::Module, None), Ok(Realm::Fresh));
    assert_eq!(realm("no", TaskKind::Function, None), Ok(Realm::Fresh));
    let refused = realm("no", TaskKind::Function, Some(Realm::Warm)).expect_err("forbidden");
    assert_eq!(refused.field, "realm");
    assert_eq!(realm("z", TaskKind::Code, None), Ok(Realm::Frozen));
    assert_eq!(realm("nz", TaskKind::Function, None), Ok(Realm::Frozen));
    assert_eq!(realm("no", TaskKind::Function, Some(Realm::Frozen)), Ok(Realm::Frozen));
    // A module keeps what it holds.
    assert_eq!(realm("z", TaskKind::Module, None), Ok(Realm::Warm));
    assert_eq!(realm("nz", TaskKind::Module, None), Ok(Realm::Fresh));
    let refused = realm("z", TaskKind::Module, Some(Realm::Frozen)).expect_err("kept");
    assert_eq!(refused.field, "realm");
}

#[test]
fn the_apis_files_lie_beside_the_control_socket_unless_named() {
    let control = Path::new("/run/p/pool.sock");
    let http = |json| accept(json).http;
    assert_eq!(http("{}").key_file_beside(control), Path::new("/run/p/api.key"));
    assert_eq!(http("{}").socket_beside(control).as_deref(), Some(Path::new("/run/p/api.sock")));
    assert_eq!(http(r#"{"http":{"listen":"off"}}"#).socket_beside(control), None);
    assert_eq!(http(r#"{"http":{"socket":"off"}}"#).socket_beside(control), None);
    let named = http(r#"{"http":{"listen":"off","socket":"/a/s","keyFile":"/a/k"}}"#);
    assert_eq!(named.socket_beside(control).as_deref(), Some(Path::new("/a/s")));
    assert_eq!(named.key_file_beside(control), Path::new("/a/k"));
}

/// An authority that has signed nothing.
const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----\n\
MIIBajCCAQ+gAwIBAgIUeUT7Vp6NyhoUjhTApHO6EIjTVSwwCgYIKoZIzj0EAwIw\n\
ITEfMB0GA1UEAwwWYXV0aG9yaXR5IG9mIHRoZSB0ZXN0czAgFw0yMDAxMDEwMDAw\n\
MDBaGA8yMTIwMDEwMTAwMDAwMFowITEfMB0GA1UEAwwWYXV0aG9yaXR5IG9mIHRo\n\
ZSB0ZXN0czBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABL0chzKlRLKVGQiRF6nD\n\
0FJHbA0jCM20LgjOw2XsqosLVubQx6fiEI4SeXibn5LwIcMlm277ze06Laq3Ej3W\n\
DkCjIzAhMA8GA1UdEwEB/wQFMAMBAf8wDgYDVR0PAQH/BAQDAgEGMAoGCCqGSM49\n\
BAMCA0kAMEYCIQDhKgl7b8OJgC59FLkvJSpMtEcfnObsqMZo4jSUhO01BwIhAM1T\n\
lq0z36EurSfYNNy4k4Z0ErefoY4telASzGscKJ2a\n\
-----END CERTIFICATE-----\n";

#[test]
fn authorities_are_read_with_the_configuration_and_said_to_workers() {
    let (_folder, path) = file("ca.pem", AUTHORITY);
    let path = path.canonicalize().expect("it is there");
    for json in [json!({"http": {"ca": path}}), json!({"http": {"ca": [path, path]}})] {
        let config = accept(&json.to_string());
        assert!(
            config.http.ca.iter().all(|ca| *ca == path) && !config.http.ca.is_empty(),
            "{json}"
        );
        let told = config.worker_setup(Lane::Io, String::new(), None).http.authorities;
        assert_eq!(told.matches(AUTHORITY).count(), config.http.ca.len());
        assert_eq!(accept(&config.effective_json()), config);
    }
    // Another file in its place is another setting: a reload replaces the workers.
    let before = accept(&json!({"http": {"ca": path}}).to_string());
    std::fs::write(&path, AUTHORITY.repeat(2)).expect("written");
    assert_ne!(accept(&json!({"http": {"ca": path}}).to_string()), before);
    for (text, problem) in [
        ("", "must be a file of certificates in PEM"),
        ("no certificate", "must be a file of certificates in PEM"),
        (
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
            "holds a damaged certificate",
        ),
        (&AUTHORITY.repeat(2000), "is too much"),
    ] {
        std::fs::write(&path, text).expect("written");
        let refused = refuse(&json!({"http": {"ca": [path]}}).to_string());
        assert!(refused.starts_with("http.ca[0] ") && refused.contains(problem), "{refused}");
    }
    assert!(
        refuse(r#"{"http":{"ca":"/no/such.pem"}}"#)
            .starts_with("http.ca names /no/such.pem: No such file")
    );
    assert!(refuse(r#"{"http":{"ca":1}}"#).starts_with("http.ca must be a file of certificates"));
}
