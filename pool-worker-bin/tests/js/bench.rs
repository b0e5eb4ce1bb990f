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

#[test]
fn zz_measure() {
    if let Ok(flags) = std::env::var("FLAGS") { v8::V8::set_flags_from_string(&flags); }
    let snap = std::env::var_os("SNAP").map(|f| std::borrow::Cow::Owned(std::fs::read(f).unwrap()));
    let mut bench = Bench::with(|c| c.snapshot = snap);
    println!("snapshot {}", bench.engine.uses_snapshot());
    let mut ticket = 0;
    let mut go = |bench: &mut Bench, realm, source: &'static str, limit, spare: bool| {
        let n = 3000u32;
        let mut run = std::time::Duration::ZERO;
        let mut prep = std::time::Duration::ZERO;
        for _ in 0..n {
            let t = Instant::now();
            if spare {
                bench.engine.prepare_spare();
            }
            prep += t.elapsed();
            ticket += 1;
            let t = Instant::now();
            let work = if realm == Realm::Warm {
                Work::Function { source: "(a) => a", args_json: b"[1]" }
            } else {
                Work::Code { source, context_json: b"" }
            };
            let o = bench.engine.run(&JsTask {
                ticket,
                project: "p",
                realm,
                work,
                memory_limit_bytes: limit,
                capture_logs: false,
            });
            run += t.elapsed();
            assert!(o.result.is_ok());
        }
        (run / n, prep / n)
    };
    for _ in 0..2 {
        for limit in [None, Some(128 << 20), Some(16 << 20), Some(4 << 20)] {
            println!("limit {limit:?} warm {:?}", go(&mut bench, Realm::Warm, "1", limit, false));
            println!("limit {limit:?} fresh {:?}", go(&mut bench, Realm::Fresh, "return 1", limit, false));
            println!("limit {limit:?} fresh script {:?}", go(&mut bench, Realm::Fresh, "1", limit, false));
            println!("limit {limit:?} spare {:?}", go(&mut bench, Realm::Fresh, "return 1", limit, true));
        }
    }
}
