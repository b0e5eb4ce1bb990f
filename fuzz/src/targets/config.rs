//! The configuration: JSON, and TOML.
//!
//! What is accepted holds its bounds, is accepted again as the supervisor writes it out, in both
//! formats, and is accepted by those who work with it: the core starts with it, and the worker
//! reads the same rules out of it.
//!
//! An input that begins with `{` is JSON, any other TOML.

use std::path::Path;

use pool_core::Core;
use pool_core::event::Event;
use pool_core::seeds::Seeds;
use pool_core::time::Time;
use pool_edge::config::{Config, ConfigError, MAX_WORKERS};
use pool_protocol::id::TaskId;
use pool_protocol::lane::Lane;
use pool_worker_core::{http, shell};

use crate::allocation::peak_during;

/// A file is a tree, its settings, and an error about one of them. TOML keeps a record of every
/// character it has read.
const GROWTH: usize = 256;
const FIRST_BLOCK: usize = 256 * 1024;
/// A pattern for arguments may grow into a large automaton, up to the bound that `regex` has for
/// it, as it is and anchored.
const PATTERN: usize = 2 * 16 * 1024 * 1024;

/// One file.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let path =
        Path::new(if text.trim_start().starts_with('{') { "pool.json" } else { "pool.toml" });
    let (read, peak) = peak_during(|| Config::from_text(path, text));
    // The key may be written with escapes.
    let may_have_pattern = text.contains("args") || text.contains('\\');
    let most = GROWTH * text.len() + FIRST_BLOCK + if may_have_pattern { PATTERN } else { 0 };
    assert!(peak <= most, "{peak} bytes are held for a file of {}", text.len());
    match read {
        Ok(config) => {
            keeps_its_bounds(&config);
            reads_back(&config);
            is_of_use(&config);
        }
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with("failed to ") && message.contains("pool."), "{message}");
            if let ConfigError::Setting { key, problem, .. } = error {
                assert!(!key.is_empty() && !problem.is_empty(), "{message}");
            }
        }
    }
}

fn keeps_its_bounds(config: &Config) {
    let pool = &config.pool;
    assert!(
        1 <= pool.min_workers
            && pool.min_workers <= pool.max_workers
            && pool.max_workers <= MAX_WORKERS
    );
    assert!(0.0 < pool.scale_down_threshold && pool.scale_down_threshold < pool.scale_up_threshold);
    assert!(pool.queue_size > 0 && pool.heartbeat_interval_ms >= 50 && pool.priority_ageing_ms > 0);
    assert!(config.limits.timeout_ms > 0 && config.limits.cpu_ms > 0);
    for (name, project) in &config.projects {
        assert!(pool_protocol::id::check_project_id(name).is_ok(), "{name:?}");
        assert!((0.001..=1000.0).contains(&project.weight), "{}", project.weight);
    }
    for program in &config.shell.allow {
        assert!(
            program.program.starts_with('/') && program.resolved.starts_with('/'),
            "{program:?}"
        );
    }
    for (name, value) in &config.shell.env {
        assert!(
            !name.contains(['=', '\0']) && !name.is_empty() && !value.contains('\0'),
            "{name:?}={value:?}"
        );
    }
    for name in &config.shell.task_env {
        assert!(name != "*" && !name.contains(['=', '\0']), "{name:?}");
        assert!(!config.shell.env.contains_key(name), "{name:?} is set by the configuration");
    }
    for path in &config.shell.sockets {
        assert!(path.is_absolute(), "{path:?}");
    }
}

fn reads_back(config: &Config) {
    let json = config.effective_json();
    let again = Config::from_text(Path::new("again.json"), &json);
    assert_eq!(again.as_ref().ok(), Some(config), "{json}: {:?}", again.as_ref().err());
    let tree: serde_json::Value = serde_json::from_str(&json).expect("what is written is JSON");
    let toml = toml::to_string(&tree).expect("and can be TOML");
    let again = Config::from_text(Path::new("again.toml"), &toml);
    assert_eq!(again.as_ref().ok(), Some(config), "{toml}: {:?}", again.as_ref().err());
}

fn is_of_use(config: &Config) {
    let setup = config.worker_setup(Lane::Io, "w0.1".into(), None);
    let wire = serde_json::to_vec(&setup).expect("settings serialise");
    assert_eq!(
        serde_json::from_slice::<pool_protocol::worker::Setup>(&wire).ok(),
        Some(setup.clone())
    );
    assert!(http::Rules::new(&setup.http).is_ok(), "the worker reads {:?}", setup.http.allow);
    assert!(shell::Rules::new(&setup.shell).is_ok(), "the worker reads {:?}", setup.shell.allow);

    let mut core = Core::new(Time(0), config.core_settings(), TaskId(1), Seeds::fixed(1));
    let mut actions = Vec::new();
    core.handle(Time(0), Event::Tick, &mut actions);
    core.check_invariants();
    assert!(!actions.is_empty(), "a pool begins by starting workers");
}
