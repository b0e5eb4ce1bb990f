//! Requests that are meant to reach what they must not, or never to end: rows 39 to 44 and 74 of
//! what the pool must survive.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use pool_tests::apart::{add_address, with_own_network};
use pool_tests::names::Names;
use pool_tests::server::{Reply, Server};
use pool_tests::tasks::{error, get, result, with};
use pool_tests::wait::pause;
use pool_tests::{Pool, Value, json, proc, unharmed};

/// A pool with room for a JavaScript task beside requests.
fn pool_with(http: Value) -> Pool {
    Pool::start(json!({"pool": {"minWorkers": 1, "maxWorkers": 3}, "http": http}))
}

fn pool_for(servers: &[&str]) -> Pool {
    pool_with(json!({"allow": servers}))
}

fn denied(pool: &Pool, url: &str) {
    let outcome = pool.run(with(get(url), json!({"timeout": 20_000})));
    assert_eq!(error(&outcome), "URL_DENIED", "{url}: {outcome}");
}

#[test]
fn hostile_39_addresses_that_are_not_public_are_denied_however_they_are_written() {
    let server = Server::start(|_| Reply::text("reached"));
    let port = server.address().rsplit(':').next().expect("a port").to_owned();
    let pool = pool_with(json!({}));
    unharmed(&pool, || {
        for host in [
            "127.0.0.1",
            "127.1",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "2130706433",
            "0",
            "0.0.0.0",
            "localhost",
            "127.0.0.1.",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::ffff:169.254.169.254]",
            "[64:ff9b::7f00:1]",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "[fe80::1]",
            "[fd00::1]",
            "[ff02::1]",
            "user:password@127.0.0.1",
            "１２７.0.0.1",
        ] {
            denied(&pool, &format!("http://{host}:{port}/"));
        }
    });
    assert!(server.seen().is_empty());
}

#[test]
fn hostile_39_only_http_and_https_are_known() {
    let pool = pool_with(json!({}));
    for url in [
        "file:///etc/passwd",
        "ftp://example.org/",
        "unix:/run/x.sock",
        "data:text/plain,x",
        "gopher://x/",
    ] {
        denied(&pool, url);
    }
    let malformed = pool.run(get("not a url"));
    assert!(["URL_DENIED", "INVALID_TASK"].contains(&error(&malformed)), "{malformed}");
}

/// Addresses of the public internet, in a network where only we answer on them.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(8, 8, 4, 4);
const OTHER_PUBLIC: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

#[test]
fn where_public_addresses_are_denied_none_is_dialled_however_it_is_written_or_found() {
    with_own_network(|| {
        add_address(PUBLIC);
        let public = Server::at(PUBLIC, 8080, |_| Reply::text("public"));
        let _names = Names::start(|_, _| vec![PUBLIC]);
        let inner = Server::at(Ipv4Addr::LOCALHOST, 8081, |request| {
            Reply::new("302 Found", &[("Location", &format!("http:/{}:8080/", request.path))], "")
        });
        let pool = pool_with(json!({"public": "deny", "allow": ["127.0.0.1:8081"]}));
        unharmed(&pool, || {
            for host in [
                "8.8.4.4",
                "0x08080404",
                "8.8.1028",
                "134743044",
                "[::ffff:8.8.4.4]",
                "name.example",
            ] {
                denied(&pool, &format!("http://{host}:8080/"));
                denied(&pool, &inner.url(&format!("/{host}")));
            }
        });
        assert_eq!((public.seen().len(), inner.seen().len()), (0, 6));
        let open = pool_with(json!({"public": "allow"}));
        assert_eq!(
            result(open.run(get("http://8.8.4.4:8080/")))["data"],
            "public",
            "the server is there"
        );
    });
}

#[test]
fn where_public_addresses_are_denied_exactly_what_is_listed_is_reached() {
    with_own_network(|| {
        for address in [PUBLIC, OTHER_PUBLIC, METADATA] {
            add_address(address);
        }
        let listed = Server::at(PUBLIC, 8080, |request| match request.path.as_str() {
            "/" => Reply::text("listed"),
            to => Reply::new("302 Found", &[("Location", &format!("http:/{to}:8080/"))], ""),
        });
        let other = Server::at(OTHER_PUBLIC, 8080, |_| Reply::text("other"));
        let metadata = Server::at(METADATA, 8080, |_| Reply::text("secret"));
        let _names = Names::start(|name, _| match name {
            "api.example" => vec![OTHER_PUBLIC],
            "points-inward.example" => vec![METADATA],
            "mixed.example" => vec![OTHER_PUBLIC, METADATA],
            _ => vec![PUBLIC],
        });
        let names = ["api.example:8080", "points-inward.example", "mixed.example"];
        let allow = [&["8.8.4.4:8080"], &names[..]].concat();
        let pool = pool_with(json!({"public": "deny", "allow": allow}));
        let reached = |url: &str| result(pool.run(get(url)))["data"].clone();
        unharmed(&pool, || {
            assert_eq!(reached("http://8.8.4.4:8080/"), "listed");
            assert_eq!(
                reached("http://any.example:8080/"),
                "listed",
                "an address is listed under whatever name"
            );
            assert_eq!(
                reached("http://api.example:8080/"),
                "other",
                "a listed name opens what it resolves to"
            );
            assert_eq!(reached("http://8.8.4.4:8080/api.example"), "other", "by a redirect too");
            denied(&pool, "http://8.8.4.4:8081/");
            denied(&pool, "http://8.8.8.8:8080/");
            denied(&pool, "http://8.8.4.4:8080/8.8.8.8");
            let before = (other.seen().len(), metadata.seen().len());
            for name in ["points-inward.example", "mixed.example"] {
                denied(&pool, &format!("http://{name}:8080/"));
                denied(&pool, &format!("http://8.8.4.4:8080/{name}"));
            }
            assert_eq!(
                (other.seen().len(), metadata.seen().len()),
                before,
                "a name opens nothing inside"
            );
        });
        assert_eq!((other.seen().len(), metadata.seen().len()), (2, 0));
        assert!(!listed.seen().is_empty());
    });
}

#[test]
fn hostile_40_a_name_that_resolves_to_loopback_the_second_time_is_dialled_where_it_was_judged() {
    with_own_network(|| {
        add_address(PUBLIC);
        let inner = Server::at(Ipv4Addr::LOCALHOST, 8080, |_| Reply::text("inner"));
        let public = Server::at(PUBLIC, 8080, |_| Reply::text("public"));
        let names = Names::start(
            |_, asked| if asked == 0 { vec![PUBLIC] } else { vec![Ipv4Addr::LOCALHOST] },
        );
        let pool = pool_with(json!({}));
        unharmed(&pool, || {
            let first = pool.run(get("http://rebind.example:8080/"));
            assert_eq!(
                result(first)["data"],
                "public",
                "judged and dialled by one and the same answer"
            );
            assert_eq!(names.asked("rebind.example"), 1);
            denied(&pool, "http://rebind.example:8080/");
        });
        assert_eq!((public.seen().len(), inner.seen().len()), (1, 0));
    });
}

#[test]
fn hostile_40_a_name_with_an_inner_address_among_public_ones_is_never_dialled() {
    with_own_network(|| {
        add_address(PUBLIC);
        let inner = Server::at(Ipv4Addr::LOCALHOST, 8080, |_| Reply::text("inner"));
        let public = Server::at(PUBLIC, 8080, |_| Reply::text("public"));
        let _names = Names::start(|name, _| match name {
            "inner-last.example" => vec![PUBLIC, Ipv4Addr::LOCALHOST],
            "inner-first.example" => vec![Ipv4Addr::LOCALHOST, PUBLIC],
            "metadata.example" => vec![PUBLIC, Ipv4Addr::new(169, 254, 169, 254)],
            _ => vec![PUBLIC],
        });
        let pool = pool_with(json!({}));
        unharmed(&pool, || {
            for name in ["inner-last", "inner-first", "metadata"] {
                denied(&pool, &format!("http://{name}.example:8080/"));
            }
        });
        assert_eq!((public.seen().len(), inner.seen().len()), (0, 0));
        assert_eq!(result(pool.run(get("http://honest.example:8080/")))["data"], "public");
    });
}

#[test]
fn hostile_41_every_redirect_is_checked_again_and_an_endless_one_is_ended() {
    let hidden = Server::start(|_| Reply::text("secret"));
    let elsewhere = hidden.url("/");
    let server = Server::start(move |r| {
        let to = match r.path.as_str() {
            "/other" => &elsewhere,
            "/loopback" => "http://127.1:1/",
            "/file" => "file:///etc/passwd",
            "/unix" => "unix:/run/docker.sock",
            "/link" => "http://169.254.169.254/latest",
            path => path,
        };
        Reply::new("302 Found", &[("Location", to)], "")
    });
    let pool = pool_for(&[&server.address()]);
    unharmed(&pool, || {
        for path in ["/other", "/loopback", "/file", "/unix", "/link"] {
            denied(&pool, &server.url(path));
        }
        let before = server.seen().len();
        let endless = pool.run(with(get(&server.url("/to-itself")), json!({"maxRedirects": 7})));
        assert_eq!(error(&endless), "HTTP_ERROR", "{endless}");
        assert!(
            endless["error"]["message"].as_str().is_some_and(|m| m.contains("redirects")),
            "{endless}"
        );
        assert_eq!(
            server.seen().len() - before,
            8,
            "the request and the seven that it was sent on"
        );
    });
    assert!(hidden.seen().is_empty());
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes everything")
}

/// The resident memory of all workers of the lane, at its highest, in KiB.
fn peak_kib(pool: &Pool) -> u64 {
    let rows = pool.workers().into_iter().filter(|row| row["lane"] == "io");
    let pids = rows.filter_map(|row| i32::try_from(row["pid"].as_i64()?).ok());
    pids.filter_map(|pid| proc::status_kib(pid, "VmHWM")).max().expect("a worker of the lane lives")
}

#[test]
fn hostile_42_a_gzip_bomb_is_capped_at_its_unpacked_size() {
    let bomb = gzip(&vec![0; 400 << 20]);
    let twice = gzip(&bomb);
    assert!(bomb.len() < 1 << 20);
    let server = Server::start(move |r| {
        let (encoding, body) =
            if r.path == "/twice" { ("gzip, gzip", &twice) } else { ("gzip", &bomb) };
        Reply::new("200 OK", &[("Content-Encoding", encoding)], body)
    });
    let pool = pool_for(&[&server.address()]);
    unharmed(&pool, || {
        assert_eq!(error(&pool.run(get(&server.url("/bomb")))), "OUTPUT_LIMIT");
        // Packed twice it is unpacked twice, within the same cap.
        let twice = pool.run(get(&server.url("/twice")));
        assert_eq!(error(&twice), "OUTPUT_LIMIT", "{:.300}", twice.to_string());
    });
    let peak = peak_kib(&pool);
    assert!(peak < 200 * 1024, "400 MiB were unpacked into {peak} KiB");
}

/// Answers every connection as it likes, without knowing how much there will be.
fn raw_server(
    answer: impl Fn(TcpStream) -> std::io::Result<()> + Send + Sync + Clone + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = listener.local_addr().expect("it is bound").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || {
                let mut asked = &stream;
                let _ = asked.read(&mut [0; 4096]);
                // The client hangs up when it has had enough.
                let _ = answer(stream);
            });
        }
    });
    address
}

#[test]
fn hostile_42_a_body_without_end_is_capped() {
    let endless = |chunked: bool| {
        raw_server(move |mut stream| {
            let how = if chunked { "Transfer-Encoding: chunked\r\n" } else { "" };
            write!(stream, "HTTP/1.1 200 OK\r\n{how}\r\n")?;
            let piece = "x".repeat(65_536);
            let piece = if chunked { format!("10000\r\n{piece}\r\n") } else { piece };
            loop {
                stream.write_all(piece.as_bytes())?;
            }
        })
    };
    let (chunked, plain) = (endless(true), endless(false));
    let pool = pool_for(&[&chunked, &plain]);
    unharmed(&pool, || {
        for address in [&chunked, &plain] {
            let outcome = pool.run(get(&format!("http://{address}/")));
            assert_eq!(error(&outcome), "OUTPUT_LIMIT", "{:.300}", outcome.to_string());
        }
    });
    let peak = peak_kib(&pool);
    assert!(peak < 200 * 1024, "{peak} KiB for a reply of at most 10 MiB");
}

/// Headers without end are no body, and must not be taken in either.
#[test]
fn hostile_42_headers_without_end_are_an_error() {
    let address = raw_server(|mut stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
        loop {
            stream
                .write_all(b"X-More: and more and more and more and more and more and more\r\n")?;
        }
    });
    let pool = pool_for(&[&address]);
    unharmed(&pool, || {
        let outcome =
            pool.run(with(get(&format!("http://{address}/")), json!({"timeout": 20_000})));
        assert_eq!(error(&outcome), "HTTP_ERROR", "{outcome:.300}");
    });
    assert!(peak_kib(&pool) < 200 * 1024);
}

#[test]
fn hostile_42_a_byte_every_ten_seconds_is_ended_by_the_timeout() {
    let drip = |head: &'static str| {
        raw_server(move |mut stream| {
            stream.write_all(head.as_bytes())?;
            loop {
                stream.write_all(b"x")?;
                pause(Duration::from_secs(10));
            }
        })
    };
    let servers = [
        drip("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        drip("HTTP/1.1 200 OK\r\nX-Slow: "),
        drip("HTTP/1.1 200 "),
    ];
    let pool = pool_for(&[&servers[0], &servers[1], &servers[2]]);
    unharmed(&pool, || {
        for address in &servers {
            let outcome =
                pool.run(with(get(&format!("http://{address}/")), json!({"timeout": 300})));
            assert_eq!(outcome["status"], "timed-out", "{outcome}");
        }
    });
}

#[test]
fn hostile_43_line_breaks_and_the_clients_own_headers_are_refused() {
    let server = Server::start(|_| Reply::text("ok"));
    let pool = pool_for(&[&server.address()]);
    let refused = |fields: Value| {
        let outcome = pool.run(with(get(&server.url("/")), fields.clone()));
        assert!(["URL_DENIED", "INVALID_TASK"].contains(&error(&outcome)), "{fields}: {outcome}");
    };
    unharmed(&pool, || {
        for headers in [
            json!({"X-A": "1\r\nX-B: 2"}),
            json!({"X-A": "1\nX-B: 2"}),
            json!({"X-A": "1\rX-B: 2"}),
            json!({"X-A": "1\u{0}"}),
            json!({"X\r\nA": "1"}),
            json!({"X-A: 1\r\nX-B": "1"}),
            json!({"X A": "1"}),
            json!({"": "1"}),
            json!({"Host": "elsewhere"}),
            json!({"hOsT": "elsewhere"}),
            json!({"Content-Length": "5"}),
            json!({"Transfer-Encoding": "chunked"}),
        ] {
            refused(json!({"headers": headers}));
        }
        for url in
            ["/a\r\nX-B: 2", "/a HTTP/1.1\r\nX-B: 2\r\n\r\n", "/\n", "/?q=1\r\nX-B: 2", "/\tx"]
        {
            refused(json!({"url": server.url(url)}));
        }
        for method in ["GET\r\nX-B: 2", "GET /other HTTP/1.1\r\n", "G T", ""] {
            refused(json!({"method": method}));
        }
    });
    assert!(server.seen().is_empty(), "{:?}", server.seen());
}

#[test]
fn hostile_44_a_proxy_in_the_environment_is_ignored() {
    let (proxy, server) =
        (Server::start(|_| Reply::text("proxy")), Server::start(|_| Reply::text("direct")));
    let address = proxy.url("");
    let pool = Pool::start_with(json!({"http": {"allow": ["127.0.0.0/8"]}}), |c| {
        for name in ["http_proxy", "https_proxy", "all_proxy", "ftp_proxy"] {
            c.env(name, &address).env(name.to_uppercase(), &address);
        }
        c.env("no_proxy", "");
    });
    unharmed(&pool, || {
        assert_eq!(result(pool.run(get(&server.url("/"))))["data"], "direct");
    });
    assert!(proxy.seen().is_empty());
}

#[test]
fn hostile_74_a_redirect_to_another_origin_leaves_every_credential_behind() {
    const CREDENTIALS: [(&str, &str); 10] = [
        ("authorization", "Basic dTpw"),
        ("cookie", "session=1"),
        ("x-api-key", "secret"),
        ("api_key", "secret"),
        ("private-token", "secret"),
        ("x-client-secret", "secret"),
        ("x-auth-user", "me"),
        ("x-hub-signature-256", "sha256=1"),
        ("cf-access-client-id", "me"),
        ("x-forwarded-as", "Bearer secret"),
    ];
    let elsewhere = Server::start(|_| Reply::text("elsewhere"));
    let target = elsewhere.url("/end");
    let server = Server::start(move |request| {
        let to = if request.path == "/away" { target.as_str() } else { "/end" };
        let status = if request.path == "/end" { "200 OK" } else { "307 Temporary Redirect" };
        Reply::new(status, &[("Location", to)], "here")
    });
    let pool = pool_for(&[&server.address(), &elsewhere.address()]);
    let mut headers: serde_json::Map<String, Value> =
        CREDENTIALS.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    headers.insert("accept-language".into(), json!("de"));
    let ask =
        |path: &str| result(pool.run(with(get(&server.url(path)), json!({"headers": headers}))));
    unharmed(&pool, || {
        assert_eq!(ask("/stay")["data"], "here");
        assert_eq!(ask("/away")["data"], "elsewhere");
    });
    for request in server.seen() {
        assert!(
            CREDENTIALS.iter().all(|(name, value)| request.header(name) == Some(value)),
            "{request:?}"
        );
    }
    let seen = elsewhere.seen();
    assert_eq!(seen.len(), 1);
    assert!(CREDENTIALS.iter().all(|(name, _)| seen[0].header(name).is_none()), "{seen:?}");
    assert_eq!(seen[0].header("accept-language"), Some("de"), "what is no credential is sent on");
}
