//! What a worker puts on itself: seen from outside, from within, and in how it dies. Attacks are
//! the probes' business.

mod io_support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use io_support::{Worker, code, executable, setup, skip, task};
use pool_protocol::lane::Lane;
use pool_protocol::layer::{Layer, LayerSet, Level};
use pool_protocol::outcome::{Cause, ErrorCode};
use pool_protocol::task::TaskKind;
use pool_protocol::worker::{AllowedProgram, Setup};
use serde_json::{Value, json};

fn at(level: Level, lane: Lane) -> Setup {
    let mut setup = setup(lane);
    setup.isolation.level = level;
    setup.isolation.writable.clear();
    setup
}

/// A line of the kernel's account of the worker.
fn status(worker: &Worker, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{}/status", worker.child.id())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    line.unwrap_or_else(|| panic!("{name} is in {text}")).to_owned()
}

#[test]
fn what_it_reports_is_what_the_kernel_says() {
    let (worker, layers, missing) = Worker::start_confined(&at(Level::Standard, Lane::Js));
    assert!(missing.contains_key("pid-namespace"), "{missing:?}");
    for (layer, name, on) in [
        (Layer::NoNewPrivs, "NoNewPrivs", "1"),
        (Layer::Seccomp, "Seccomp", "2"),
        (Layer::Capabilities, "CapEff", "0000000000000000"),
        (Layer::Capabilities, "CapPrm", "0000000000000000"),
        (Layer::Capabilities, "CapInh", "0000000000000000"),
    ] {
        assert_eq!(
            layers.has(layer),
            status(&worker, name) == on,
            "{layer} and {name}: {}",
            status(&worker, name)
        );
    }
    for (layer, name) in [
        (Layer::UserNamespace, "user"),
        (Layer::MountNamespace, "mnt"),
        (Layer::NetworkNamespace, "net"),
        (Layer::IpcNamespace, "ipc"),
    ] {
        let own = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        match fs::read_link(format!("/proc/{}/ns/{name}", worker.child.id())) {
            Ok(its) => assert_eq!(layers.has(layer), its != own, "{layer}"),
            Err(error) => skip::partly_skipped(
                skip::ROOT,
                &format!("a look at its {name} namespace: {error}"),
            ),
        }
    }
    for layer in LayerSet::promised(Level::Strict, Lane::Js).without(layers).iter() {
        assert!(
            missing.contains_key(layer.name()),
            "{layer} is missing without a reason: {missing:?}"
        );
    }
    for layer in layers.iter() {
        assert!(!missing.contains_key(layer.name()), "{layer} is on and missing");
    }
}

#[test]
fn off_is_limits_only_and_says_so() {
    for lane in [Lane::Js, Lane::Io] {
        let (worker, layers, missing) = Worker::start_confined(&at(Level::Off, lane));
        assert_eq!(layers, LayerSet::promised(Level::Off, lane));
        assert_eq!(missing["seccomp"], "isolation is off");
        assert_eq!((&*status(&worker, "Seccomp"), &*status(&worker, "NoNewPrivs")), ("0", "0"));
    }
}

#[test]
fn strict_without_a_promised_layer_is_a_failed_start_that_names_it() {
    let mut worker = Worker::silent(Lane::Js);
    // Nobody has made it a process namespace.
    worker.send_setup(&at(Level::Strict, Lane::Js), u64::from(pool_protocol::version::CURRENT));
    assert_eq!(worker.next_or_end(), None);
    assert_eq!(worker.exit().code(), Some(1));
    let text = worker.stderr();
    assert!(
        text.contains("pid-namespace (the supervisor did not start")
            && text.contains("\"standard\""),
        "{text}"
    );
}

#[test]
fn a_strict_worker_in_namespaces_runs_tasks_and_finds_an_empty_root() {
    let Some(mut worker) = Worker::start_as_init(&at(Level::Strict, Lane::Js)) else { return };
    assert_eq!(
        worker.outcome(&code(1, "return [1, 2].map(x => x * 21)")).result(),
        json!([21, 42])
    );
    assert!(worker.heartbeat().rss_bytes > 1 << 20, "it still measures itself");
    worker.retire();
    assert_eq!(worker.exit().code(), Some(0));
}

#[test]
fn the_first_process_of_a_namespace_dies_of_all_that_others_die_of() {
    let setup = at(Level::Standard, Lane::Js);
    let Some(mut worker) = Worker::start_as_init(&setup) else { return };
    let mut run = code(1, "Array.prototype.includes.call({length: 2**53 - 1}, 1)");
    run.head.cpu_ms = 50;
    worker.send_runs(&[run]);
    assert_eq!(
        worker.last_words(),
        (Cause::CpuLimit, "the kernel's limit of CPU time was reached".into())
    );
    assert_eq!(worker.exit().code(), Some(128 + libc::SIGXCPU));

    let mut worker = Worker::start_as_init(&setup).expect("it went before");
    worker.send_runs(&[code(1, "return 'a'.repeat(2**28).split('').length")]);
    assert!(matches!(worker.last_words().0, Cause::EngineFatal | Cause::JsHeap));
    let status = worker.exit();
    assert!(status.signal().is_some(), "{status}");

    // Whose supervisor goes, busy with what does not look.
    let mut worker = Worker::start_as_init(&setup).expect("it went before");
    worker.send_started("Array.prototype.includes.call({length: 2**53 - 1}, 1)");
    worker.hang_up();
    assert_eq!(worker.exit().code(), Some(128 + libc::SIGKILL));
}

#[test]
fn dates_and_languages_are_as_without_confinement() {
    let source = "const at = new Date(1e12); return [at.toString(), at.toLocaleString('de'), \
        at.getTimezoneOffset(), \
                  Intl.DateTimeFormat().resolvedOptions().timeZone, new \
                  Intl.NumberFormat('fr').format(1234.5)]";
    let said = |level, zone: Option<&str>| {
        let variables: Vec<_> = zone.iter().map(|zone| ("TZ", (*zone).to_owned())).collect();
        Worker::start_with(&at(level, Lane::Js), &variables).outcome(&code(1, source)).result()
    };
    for zone in [None, Some("Asia/Tokyo"), Some("America/St_Johns")] {
        assert_eq!(said(Level::Standard, zone), said(Level::Off, zone), "{zone:?}");
    }
    assert_eq!(said(Level::Standard, Some("Asia/Tokyo"))[2], -540);
}

#[test]
fn modules_are_found_in_the_empty_root_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap().join("modules");
    fs::create_dir_all(root.join("node_modules/dep")).unwrap();
    fs::write(root.join("main.mjs"), "import dep from 'dep'; export default () => dep + 1")
        .unwrap();
    fs::write(root.join("node_modules/dep/index.js"), "module.exports = 41").unwrap();
    fs::write(folder.path().join("outside.mjs"), "export default 1").unwrap();
    std::os::unix::fs::symlink(folder.path().join("outside.mjs"), root.join("link.mjs")).unwrap();
    let mut setup = at(Level::Standard, Lane::Js);
    setup.js.module_roots = vec![root.to_str().unwrap().to_owned()];
    let (mut worker, layers, missing) = Worker::start_confined(&setup);
    let main = root.join("main.mjs");
    assert_eq!(
        worker.outcome(&task(1, TaskKind::Module, main.to_str().unwrap(), "{}")).result(),
        42
    );
    let link = root.join("link.mjs");
    let denied = worker.outcome(&task(2, TaskKind::Module, link.to_str().unwrap(), "{}")).failure();
    assert_eq!(denied.0, ErrorCode::ModuleDenied, "{denied:?}");
    if !layers.has(Layer::MountNamespace) {
        return skip::partly_skipped(skip::USER_NAMESPACES, &missing[Layer::MountNamespace.name()]);
    }
    let seen = |path: &Path| {
        let inside = Path::new(&format!("/proc/{}/root", worker.child.id()))
            .join(path.strip_prefix("/").unwrap());
        fs::metadata(inside)
    };
    match seen(&main) {
        Ok(_) => assert!(
            seen(Path::new("/etc")).is_err() && seen(&folder.path().join("outside.mjs")).is_err()
        ),
        Err(error) => {
            skip::partly_skipped(skip::ROOT, &format!("a look at its root from outside: {error}"))
        }
    }
}

fn find_setup() -> Setup {
    let resolved = fs::canonicalize("/usr/bin/find").unwrap();
    let file = fs::metadata(&resolved).unwrap();
    let mut setup = at(Level::Standard, Lane::Io);
    setup.shell.allow = vec![AllowedProgram {
        program: "/usr/bin/find".into(),
        resolved: resolved.to_str().unwrap().into(),
        device: file.dev(),
        inode: file.ino(),
        args: Some("(?s).*".into()),
    }];
    setup
}

fn find(worker: &mut Worker, args: &[&str]) -> Value {
    let data = json!({"program": "find", "args": args, "acceptExit": [1]}).to_string();
    worker.outcome(&task(1, TaskKind::Shell, "", &data)).result()
}

#[test]
fn a_program_runs_programs_of_the_list_and_no_others() {
    let (mut worker, layers, missing) = Worker::start_confined(&find_setup());
    if !layers.has(Layer::Landlock) {
        return skip::skipped(skip::LANDLOCK, &missing[Layer::Landlock.name()]);
    }
    let own =
        find(&mut worker, &["/dev/null", "-exec", "/usr/bin/find", "{}", "-printf", "found", ";"]);
    assert_eq!(own["stdout"], "found", "{own}");
    let other = find(&mut worker, &["/dev/null", "-exec", "/usr/bin/id", ";"]);
    assert!(
        other["stdout"] == "" && other["stderr"].as_str().unwrap().contains("Permission denied"),
        "{other}"
    );
    // The loader has to be executable; what it is given to load has to be readable.
    let loaders = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
    let loader =
        loaders.into_iter().find(|path| Path::new(path).exists()).expect("the C library's loader");
    let loaded = find(&mut worker, &["/dev/null", "-exec", loader, "/usr/bin/id", ";"]);
    assert!(
        loaded["stdout"] == "" && loaded["stderr"].as_str().unwrap().contains("cannot"),
        "{loaded}"
    );

    let mut setup = find_setup();
    setup.isolation.readable = vec!["/usr".into()];
    let mut worker = Worker::start(&setup);
    let other = find(&mut worker, &["/dev/null", "-exec", "/usr/bin/id", "-u", ";"]);
    assert_ne!(other["stdout"], "", "{other}");
}

#[test]
fn a_program_reads_and_writes_what_is_named_and_executes_nothing_that_it_may_write() {
    let folder = tempfile::tempdir().unwrap();
    let (open, closed) = (folder.path().join("open"), folder.path().join("closed"));
    for place in [&open, &closed] {
        fs::create_dir(place).unwrap();
        executable::copy(Path::new("/usr/bin/true"), &place.join("true"));
    }
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let mut setup = find_setup();
    setup.isolation.writable = vec![text(&open)];
    let (mut worker, layers, missing) = Worker::start_confined(&setup);
    if !layers.has(Layer::Landlock) {
        return skip::skipped(skip::LANDLOCK, &missing[Layer::Landlock.name()]);
    }
    let listed = find(&mut worker, &[&text(&open)]);
    assert!(listed["stdout"].as_str().unwrap().contains("open/true"), "{listed}");
    let hidden = find(&mut worker, &[&text(&closed)]);
    assert!(hidden["stderr"].as_str().unwrap().contains("Permission denied"), "{hidden}");
    let ran = find(
        &mut worker,
        &["/dev/null", "-exec", &text(&open.join("true")), ";", "-printf", "ran"],
    );
    assert!(
        ran["stdout"] == "" && ran["stderr"].as_str().unwrap().contains("Permission denied"),
        "{ran}"
    );
    for (place, goes) in [(&open, true), (&closed, false)] {
        let path = place.join("true");
        find(&mut worker, &[&text(&path), "-delete"]);
        assert_eq!(!path.exists(), goes, "{}", path.display());
    }
}
