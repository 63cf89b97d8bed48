//! Load client of the server benchmarks: N connections, each with at most one message under way, over epoll on one
//! thread. Closed loop: the next message leaves when the answer is there. With `--rate`, open loop: messages are due at
//! fixed times, wait for a free connection if there is none, and latency counts from when they were due.
//! It is Rust so that it is never the slower half of an exchange with a Python server.
//! Counts and CPU times cover the measured part only: after the warm-up, up to the end of the last message.
//!
//!     load --port P [--mode echo|lines|http|udp] [--connections N] [--size BYTES] [--path /] [--warmup-ms W]
//!          [--duration-ms D] [--messages M] [--server-pid PID] [--rate PER_SECOND]
//!          [--link tcp|tls|handshakes]
//!
//! `--link handshakes` is TLS with a new connection for each message, one after the other.
//!
//! The result is one JSON object on stdout.

mod histogram;
mod link;
mod message;
mod run;
mod schedule;
mod sys;
mod udp;
mod window;

use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use message::Exchange;
use run::Plan;
use window::Outcome;

fn main() -> ExitCode {
    let plan = match parse(std::env::args().skip(1)) {
        Ok(plan) => plan,
        Err(text) => {
            eprintln!("load: {text}");
            return ExitCode::from(2);
        }
    };
    let outcome = if plan.datagrams {
        udp::run(&plan)
    } else if plan.reconnects {
        run::run_reconnecting(&plan)
    } else {
        run::run(&plan)
    };
    match outcome {
        Ok(outcome) => {
            println!("{}", json(&outcome));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Plan, String> {
    let (mut mode, mut size, mut path) = ("echo".to_owned(), 1024, "/".to_owned());
    let mut link = "tcp".to_owned();
    let mut plan = Plan {
        port: 0,
        connections: 10,
        exchange: Exchange::echo(0),
        warmup: Duration::from_millis(300),
        duration: Duration::from_secs(1),
        messages: None,
        server_pid: None,
        datagrams: false,
        tls: None,
        reconnects: false,
        rate: None,
    };
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--port" => plan.port = number(&name, &value)?,
            "--mode" => mode = value,
            "--connections" => plan.connections = number(&name, &value)?,
            "--size" => size = number(&name, &value)?,
            "--path" => path = value,
            "--warmup-ms" => plan.warmup = Duration::from_millis(number(&name, &value)?),
            "--duration-ms" => plan.duration = Duration::from_millis(number(&name, &value)?),
            "--messages" => plan.messages = Some(number(&name, &value)?),
            "--rate" => plan.rate = Some(number(&name, &value)?),
            "--server-pid" => plan.server_pid = Some(number(&name, &value)?),
            "--link" => link = value,
            _ => return Err(format!("unknown option {name}")),
        }
    }
    plan.datagrams = mode == "udp";
    plan.reconnects = link == "handshakes";
    match link.as_str() {
        "tcp" => {}
        "tls" | "handshakes" => plan.tls = Some(link::config().map_err(|error| error.to_string())?),
        _ => return Err(format!("link {link}")),
    }
    plan.exchange = match mode.as_str() {
        "echo" | "udp" if size > 0 => Exchange::echo(size),
        "lines" if size > 2 => Exchange::lines(size),
        "http" => Exchange::http(&path),
        _ => return Err(format!("mode {mode} with size {size}")),
    };
    if plan.rate == Some(0) {
        return Err("--rate must be at least 1".to_owned());
    }
    if plan.port == 0 || plan.connections == 0 {
        return Err("--port and at least one connection are needed".to_owned());
    }
    Ok(plan)
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value
        .parse()
        .map_err(|_| format!("{name}: {value:?} is not a suitable number"))
}

fn json(outcome: &Outcome) -> String {
    let server_cpu = outcome
        .server_cpu_ns
        .map_or("null".to_owned(), |value| value.to_string());
    let latency = &outcome.latency;
    format!(
        "{{\"messages\": {}, \"unanswered\": {}, \"wall_ns\": {}, \"client_cpu_ns\": {}, \"server_cpu_ns\": {server_cpu}, \
         \"latency_ns\": {{\"p50\": {}, \"p99\": {}, \"p999\": {}, \"max\": {}}}}}",
        outcome.messages,
        outcome.unanswered,
        outcome.wall_ns,
        outcome.client_cpu_ns,
        latency.quantile_ns(0.5),
        latency.quantile_ns(0.99),
        latency.quantile_ns(0.999),
        latency.max_ns(),
    )
}
