//! A stand-in for the pool: it answers every task at once. What remains is poolctl's own cost.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::Context;
use bytes::BytesMut;
use pool_protocol::control::{OutcomeHead, WelcomeHead};
use pool_protocol::frame::{self, FrameLimits, Kind, Taken};
use pool_protocol::id::WorkerId;
use pool_protocol::limits::DEFAULT_BODY_BYTES;
use pool_protocol::outcome::{Receipt, Status};
use pool_protocol::version::CURRENT;

/// What every task is answered with.
pub const RESULT: &str = "42";

/// Serves so many clients, each on a thread of its own that ends with it.
///
/// # Errors
/// When the socket cannot be made.
pub fn serve(socket: &Path, clients: usize) -> anyhow::Result<()> {
    let listener = UnixListener::bind(socket)
        .with_context(|| format!("failed to listen on {}", socket.display()))?;
    for number in 0..clients {
        let listener = listener.try_clone().context("failed to share the socket")?;
        std::thread::Builder::new()
            .name(format!("echo-{number}"))
            .spawn(move || {
                // A client that goes away ends it, and its own exit code tells why.
                let _ = listener.accept().and_then(|(stream, _)| answer(stream));
            })
            .context("failed to start a thread")?;
    }
    Ok(())
}

fn answer(mut stream: UnixStream) -> std::io::Result<()> {
    let limits = FrameLimits { body_bytes: DEFAULT_BODY_BYTES };
    let mut buffer = BytesMut::new();
    let mut chunk = vec![0; 128 * 1024];
    let mut out = Vec::new();
    loop {
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            n => buffer.extend_from_slice(&chunk[..n]),
        }
        while let Taken::Frame(frame) =
            frame::take(&mut buffer, limits).map_err(std::io::Error::other)?
        {
            match frame.kind {
                Kind::Hello => {
                    let head = WelcomeHead {
                        release: "echo",
                        pid: 0,
                        body_bytes: DEFAULT_BODY_BYTES as u64,
                    };
                    frame::put(&mut out, Kind::Welcome, u64::from(CURRENT), &head, b"");
                }
                Kind::Submit => frame::put(
                    &mut out,
                    Kind::Outcome,
                    frame.id,
                    &outcome(frame.id, RESULT.len()),
                    RESULT.as_bytes(),
                ),
                // Who its workers are, is all that is ever asked: none.
                Kind::Control => frame::put_plain(&mut out, Kind::Reply, frame.id, b"[]"),
                _ => {}
            }
        }
        stream.write_all(&out)?;
        out.clear();
    }
}

/// The head of an outcome like a pool's.
#[must_use]
pub fn outcome(request: u64, result_bytes: usize) -> OutcomeHead<'static> {
    OutcomeHead {
        task: 1_795_540_000_000_000 + request,
        status: Status::Succeeded,
        code: None,
        attempts: 1,
        worker: Some(WorkerId { slot: 1, generation: 1 }),
        receipt: Receipt { queued_us: 212, run_us: 3, cpu_us: 3, memory_bytes: 4_194_304 },
        missing_layers: pool_protocol::layer::LayerSet::NONE,
        tag: None,
        result_len: result_bytes as u32,
    }
}
