//! The Rust echo limit as a bench: `cargo bench --bench echo -- --port 0`. The source, and what it measures, is the
//! example's.

use std::io;
use std::process::ExitCode;

#[path = "../examples/echo_limit.rs"]
mod echo_limit;

fn main() -> io::Result<ExitCode> {
    echo_limit::main()
}
