//! A program of a task that turns against its pool: `intruder WHAT [WHOM]`. It prints what came of
//! it in one word: `done`, `answered`, `closed`, `empty`, or the number of the system's error.
//!
//! What would do harm where it succeeds is done to the process that was named and to no other.
#![expect(unsafe_code, reason = "system calls on others, which no safe wrapper makes")]

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use pool_protocol::control::HelloHead;
use pool_protocol::frame::{self, Kind};
use pool_protocol::version;

/// For an answer, on a machine that has much to do.
const PATIENCE: Duration = Duration::from_secs(30);
const HTTP: &[u8] =
    b"GET /api/process-pool/stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let Some(outcome) = attempt(&words) else {
        eprintln!("intruder WHAT [WHOM]: test tool; there is no {words:?}");
        return ExitCode::from(2);
    };
    match outcome {
        Ok(word) => println!("{word}"),
        Err(error) => println!("{}", error.raw_os_error().unwrap_or(-1)),
    }
    ExitCode::SUCCESS
}

fn attempt(words: &[&str]) -> Option<io::Result<String>> {
    Some(match *words {
        ["control", path] => UnixStream::connect(path).and_then(|stream| answer(stream, &hello())),
        ["control-by-an-orphan", path] => by_an_orphan(path),
        ["http", path] => UnixStream::connect(path).and_then(|stream| answer(stream, HTTP)),
        ["tcp", address] => tcp(address),
        ["socket", path] => UnixStream::connect(path).map(|_| done()),
        ["pair"] => UnixStream::pair().map(|_| done()),
        ["datagram", path] => datagram(path),
        ["read", path] => std::fs::read(path)
            .map(|bytes| if bytes.is_empty() { "empty".to_owned() } else { done() }),
        ["signal", pid, number] => call(libc::SYS_kill, &[number_of(pid)?, number_of(number)?]),
        ["queue-signal", pid] => {
            call(libc::SYS_tgkill, &[number_of(pid)?, number_of(pid)?, libc::SIGTERM.into()])
        }
        ["kill-worker"] => {
            // SAFETY: it takes nothing.
            let worker = unsafe { libc::getppid() };
            call(libc::SYS_kill, &[worker.into(), libc::SIGKILL.into()])
        }
        ["renice", pid] => call(libc::SYS_setpriority, &[0, number_of(pid)?, 19]),
        ["renice-all"] => call(libc::SYS_setpriority, &[2, 0, 19]),
        ["io-class", pid] => call(libc::SYS_ioprio_set, &[1, number_of(pid)?, 3 << 13]),
        ["idle", pid] => idle(number_of(pid)?),
        ["pin", pid] => pin(number_of(pid)?),
        _ => return None,
    })
}

fn done() -> String {
    "done".to_owned()
}

fn number_of(text: &str) -> Option<i64> {
    text.parse().ok()
}

fn call(number: libc::c_long, arguments: &[i64]) -> io::Result<String> {
    let at = |place: usize| arguments.get(place).copied().unwrap_or(0);
    // SAFETY: the calls that are made by this take numbers only.
    let answer = unsafe { libc::syscall(number, at(0), at(1), at(2)) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(done()) }
}

fn idle(pid: i64) -> io::Result<String> {
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameter lives through the call.
    let answer = unsafe {
        libc::syscall(libc::SYS_sched_setscheduler, pid, libc::SCHED_IDLE, &raw const parameter)
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(done()) }
}

/// To the first processor.
fn pin(pid: i64) -> io::Result<String> {
    let mask: u64 = 1;
    // SAFETY: the mask lives through the call and has the length that is told.
    let answer = unsafe {
        libc::syscall(libc::SYS_sched_setaffinity, pid, size_of::<u64>(), &raw const mask)
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(done()) }
}

fn hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::put(
        &mut bytes,
        Kind::Hello,
        u64::from(version::CURRENT),
        &HelloHead { program: "intruder" },
        &[],
    );
    bytes
}

fn answer(mut stream: UnixStream, question: &[u8]) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let asked = stream.write_all(question).and_then(|()| stream.read(&mut [0; 64]));
    Ok(match asked {
        Ok(0) => "closed".to_owned(),
        Ok(_) => "answered".to_owned(),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET)) => {
            "closed".to_owned()
        }
        Err(error) => return Err(error),
    })
}

/// The first line of what the HTTP API says to somebody without its key.
fn tcp(address: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    let question = String::from_utf8_lossy(HTTP).replace("localhost", address);
    stream.write_all(question.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text.split_ascii_whitespace().nth(1).unwrap_or("nothing").to_owned())
}

/// One end of a pair, sent from to a path.
fn datagram(path: &str) -> io::Result<String> {
    let mut pair = [0; 2];
    // SAFETY: two numbers are written to where there is room for two.
    if unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_DGRAM, 0, pair.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a structure of numbers, for which zeros are a value.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (place, byte) in address.sun_path.iter_mut().zip(path.bytes()) {
        *place = byte.cast_signed();
    }
    let len = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    // SAFETY: text and address live through the call and have the lengths that are told.
    let sent = unsafe {
        libc::sendto(pair[0], c"x".as_ptr().cast(), 1, 0, (&raw const address).cast(), len)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(done()) }
}

/// By a grandchild in a session of its own, whose parent has ended.
fn by_an_orphan(path: &str) -> io::Result<String> {
    let (mut reader, mut writer) = io::pipe()?;
    // SAFETY: this process has one thread, so that the copy is whole.
    if unsafe { libc::fork() } == 0 {
        // SAFETY: takes nothing.
        let parent = unsafe { libc::getpid() };
        // SAFETY: as above.
        if unsafe { libc::fork() } == 0 {
            // SAFETY: these take nothing. The loop ends with the parent, which ends at once.
            unsafe {
                libc::setsid();
                while libc::getppid() == parent {
                    libc::sched_yield();
                }
            }
            let said = UnixStream::connect(path).and_then(|stream| answer(stream, &hello()));
            let said = said.unwrap_or_else(|error| error.raw_os_error().unwrap_or(-1).to_string());
            let _nobody_listens = writer.write_all(said.as_bytes());
        }
        // SAFETY: leaving without destructors, as a copy must.
        unsafe { libc::_exit(0) };
    }
    drop(writer);
    let mut said = String::new();
    reader.read_to_string(&mut said)?;
    Ok(said)
}
