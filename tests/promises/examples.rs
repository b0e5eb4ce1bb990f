//! What lies in `examples/` works as an ordinary user would use it.

use pool_tests::tasks::{module, result, with};
use pool_tests::{Folder, Pool, Value, json};

#[test]
fn plain_versions_picks_the_newest_release_of_a_range() {
    let folder = Folder::new();
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/plain-versions");
    for name in ["package.json", "index.js"] {
        let text = std::fs::read_to_string(format!("{own}/{name}")).expect("a file of the example");
        folder.write(&format!("root/node_modules/plain-versions/{name}"), &text);
    }
    folder.write("root/task.mjs", "export { newest } from 'plain-versions';");
    let pool = Pool::start(json!({"js": {"moduleRoots": [folder.join("root")]}}));
    let path = format!("{}/root/task.mjs", folder.text());
    let versions = ["1.2.3", "1.9.2", "2.0.0", "1.10.0-beta.1"];
    let cases = [
        ("^1.0.0", json!("1.9.2")),
        ("~1.2.0", json!("1.2.3")),
        ("^1.10.0-alpha", json!("1.10.0-beta.1")),
        ("*", json!("2.0.0")),
        (">=3.0.0", Value::Null),
    ];
    for (range, newest) in cases {
        let fields = json!({"method": "newest", "args": [versions, range]});
        assert_eq!(result(pool.run(with(module(&path), fields))), newest, "{range}");
    }
}
