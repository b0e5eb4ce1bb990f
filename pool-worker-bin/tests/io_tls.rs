//! Whose certificates requests believe.
//!
//! In `tls/` are an authority of these tests, valid until 2120, and a server's certificate and key
//! that it has signed, for `localhost` and 127.0.0.1. Nothing else trusts it.

mod io_support;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use io_support::server::fetch;
use io_support::{Worker, setup};
use pool_protocol::lane::Lane;
use pool_protocol::outcome::ErrorCode;
use pool_protocol::worker::Setup;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};
use serde_json::json;

const AUTHORITY: &str = include_str!("tls/ca.pem");
const CERTIFICATE: &[u8] = include_bytes!("tls/server.pem");
const KEY: &[u8] = include_bytes!("tls/server.key");

/// Answers `ok` to everybody who takes its certificate.
fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(CERTIFICATE).unwrap()],
            PrivateKeyDer::from_pem_slice(KEY).unwrap(),
        );
    let config = Arc::new(config.unwrap());
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let (mut socket, mut connection) =
                (socket.unwrap(), ServerConnection::new(Arc::clone(&config)).unwrap());
            let mut stream = Stream::new(&mut connection, &mut socket);
            // Who does not take the certificate hangs up.
            if stream.read(&mut [0; 4096]).is_ok() {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
                let _ = stream.flush();
            }
        }
    });
    address
}

fn reaching(address: SocketAddr, authorities: &str) -> Setup {
    let mut setup = setup(Lane::Io);
    setup.http.allow = vec![address.ip().to_string(), "localhost".into()];
    setup.http.authorities = authorities.to_owned();
    setup
}

#[test]
fn an_authority_of_the_configuration_is_trusted_for_names_and_addresses() {
    let address = server();
    let mut worker = Worker::start(&reaching(address, AUTHORITY));
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("https://{host}:{}/", address.port());
        assert_eq!(fetch(&mut worker, &json!({"url": url})).result()["data"], "ok", "{host}");
    }
}

#[test]
fn an_authority_of_the_machine_is_trusted() {
    let address = server();
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store.pem");
    fs::write(&store, AUTHORITY).unwrap();
    let variables = [("SSL_CERT_FILE", store.to_str().unwrap().to_owned())];
    let mut worker = Worker::start_with(&reaching(address, ""), &variables);
    let url = format!("https://localhost:{}/", address.port());
    assert_eq!(fetch(&mut worker, &json!({"url": url})).result()["data"], "ok");
}

#[test]
fn a_stranger_is_not_trusted_and_the_setting_is_named() {
    let address = server();
    let mut worker = Worker::start(&reaching(address, ""));
    let url = format!("https://localhost:{}/", address.port());
    let (code, message) = fetch(&mut worker, &json!({"url": url})).failure();
    assert_eq!(code, ErrorCode::HttpError, "{message}");
    assert!(message.contains("http.ca"), "{message}");
}

#[test]
fn what_is_no_certificate_keeps_the_worker_from_starting() {
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let mut silent = Worker::silent(Lane::Io);
    silent.send_setup(&reaching(server(), damaged), u64::from(pool_protocol::version::CURRENT));
    assert_eq!(silent.exit().code(), Some(1));
    assert!(silent.stderr().contains("http.ca"));
}
