// SPDX-License-Identifier: MIT

//! The client of the official Rust SDK: `caller REVISION URL` or `caller REVISION COMMAND ...`.
//!
//! It runs the loop of ../calling.py in its own words.

use std::{
    io::{BufRead, Write},
    process::exit,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rmcp::{
    Peer, RoleClient,
    model::{CallToolRequestParams, ClientConfig, ProtocolVersion},
    service::{ClientLifecycleMode, ClientServiceExt},
    transport::{StreamableHttpClientTransport, TokioChildProcess},
};
use serde_json::{Value, json};

fn fail(words: String) -> ! {
    eprintln!("{words}");
    exit(1)
}

fn say(line: Value) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|_| out.flush()).unwrap_or_else(|error| fail(error.to_string()));
}

/// Seconds of CPU of this process, as Python's `time.process_time`.
fn cpu() -> f64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut now) };
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

async fn add(peer: &Peer<RoleClient>, a: u64, b: u64) {
    let arguments = json!({"a": a, "b": b}).as_object().cloned().unwrap_or_default();
    let result = peer
        .call_tool(CallToolRequestParams::new("add").with_arguments(arguments))
        .await
        .unwrap_or_else(|error| fail(error.to_string()));
    let text = result.content.first().and_then(|one| one.as_text()).map(|one| one.text.as_str());
    if text != Some((a + b).to_string().as_str()) {
        fail(format!("not the answer to the question: {text:?} for {a} + {b}"));
    }
}

struct Calls {
    going: AtomicBool,
    latencies: Mutex<Vec<f64>>,
}

async fn caller(peer: Peer<RoleClient>, number: u64, calls: Arc<Calls>) {
    let mut turn = 0;
    while calls.going.load(Ordering::Relaxed) {
        turn += 1;
        let (a, b) = (100 + (number * 7 + turn) % 400, 100 + (number * 3 + turn * 11) % 400);
        let began = Instant::now();
        add(&peer, a, b).await;
        calls.latencies.lock().unwrap().push(began.elapsed().as_secs_f64());
    }
}

async fn obey(peer: &Peer<RoleClient>, order: Value) {
    let seconds = |name: &str| Duration::from_secs_f64(order[name].as_f64().unwrap_or(0.0));
    let calls = Arc::new(Calls { going: AtomicBool::new(true), latencies: Mutex::new(Vec::new()) });
    let callers: Vec<_> = (0..order["concurrency"].as_u64().unwrap_or(1))
        .map(|number| tokio::spawn(caller(peer.clone(), number, calls.clone())))
        .collect();
    tokio::time::sleep(seconds("warmup")).await;
    say(json!({"begin": true}));
    calls.latencies.lock().unwrap().clear();
    let (began, used) = (Instant::now(), cpu());
    tokio::time::sleep(seconds("seconds")).await;
    let (took, used) = (began.elapsed().as_secs_f64(), cpu() - used);
    let latencies = calls.latencies.lock().unwrap().clone();
    calls.going.store(false, Ordering::Relaxed);
    for one in callers {
        one.await.unwrap_or_else(|error| fail(error.to_string()));
    }
    say(json!({"seconds": took, "cpu": used, "latencies": latencies}));
}

#[tokio::main]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [revision, target @ ..] = words.as_slice() else { fail("caller REVISION TARGET".into()) };
    let version: ProtocolVersion =
        serde_json::from_value(json!(revision)).unwrap_or_else(|error| fail(error.to_string()));
    let mode = if revision.as_str() < "2026" {
        ClientLifecycleMode::Initialize
    } else {
        ClientLifecycleMode::Discover { preferred_versions: vec![version.clone()] }
    };
    let client = ClientConfig::default().with_protocol_version(version);
    let running = if let [url] = target {
        client.serve_with_lifecycle(StreamableHttpClientTransport::from_uri(url.as_str()), mode).await
    } else {
        let mut command = tokio::process::Command::new(&target[0]);
        command.args(&target[1..]);
        let child = TokioChildProcess::new(command).unwrap_or_else(|error| fail(error.to_string()));
        client.serve_with_lifecycle(child, mode).await
    }
    .unwrap_or_else(|error| fail(error.to_string()));
    let peer = running.peer().clone();
    add(&peer, 1, 2).await;
    say(json!({"ready": true}));
    loop {
        let line = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).map(|_| line).unwrap_or_default()
        })
        .await
        .unwrap_or_default();
        if line.is_empty() {
            break;
        }
        obey(&peer, serde_json::from_str(&line).unwrap_or_else(|error| fail(error.to_string()))).await;
    }
    let _ = running.cancel().await;
}
