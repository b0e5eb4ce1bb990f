//! How fast a known function is; a floor far below what a release build reaches, so that only a mistake trips it.

use std::time::Instant;

use pool_worker::js::{JsTask, Realm, Work};

use crate::support::Bench;

#[test]
fn a_known_function_is_called_without_compiling_it_again() {
    const CALLS: u32 = 20_000;
    let mut bench = Bench::new();
    bench.function("({a, b}) => a + b", r#"[{"a":1,"b":2}]"#).expect("the function is fine");
    let started = Instant::now();
    for call in 0..CALLS {
        let outcome = bench.engine.run(&JsTask {
            ticket: bench.next_ticket() + u64::from(call),
            project: "default",
            realm: Realm::Warm,
            work: Work::Function { source: "({a, b}) => a + b", args_json: br#"[{"a":1,"b":2}]"# },
            memory_limit_bytes: None,
            capture_logs: false,
        });
        assert_eq!(outcome.result.as_deref(), Ok(b"3".as_slice()));
    }
    let rate = f64::from(CALLS) / started.elapsed().as_secs_f64();
    println!("warm function: {rate:.0} calls a second");
    assert!(rate > 20_000.0, "only {rate:.0} calls a second");
}
