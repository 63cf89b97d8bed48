//! Injected faults: the same seed brings the same ones, zero brings none, and nothing is lost by them. In a process of its
//! own, since the faults are the process's.
#![cfg(feature = "faults")]

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use reactor::{faults, sockets};

fn run(seed: u64) -> Vec<Result<usize, Option<i32>>> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    faults::inject(seed, [300, 100, 100, 50, 50]);
    let mut answers = Vec::new();
    let mut sent = 0;
    let mut received = 0;
    for round in 0..200 {
        let mut buffer = [0; 64];
        let answer = if round % 2 == 0 {
            sockets::send(theirs.as_raw_fd(), &[7; 64]).inspect(|len| sent += len)
        } else {
            sockets::recv_into(ours.as_raw_fd(), &mut buffer).inspect(|len| received += len)
        };
        answers.push(answer.map_err(|error| error.raw_os_error()));
    }
    faults::inject(0, [0; faults::KINDS.len()]);
    let mut rest = [0; 64 * 200];
    received += sockets::recv_into(ours.as_raw_fd(), &mut rest).unwrap_or(0);
    assert_eq!(sent, received, "a fault loses nothing and adds nothing");
    answers
}

#[test]
fn a_seed_can_be_repeated_and_zero_is_off() {
    let first = run(7);
    assert_eq!(first, run(7));
    assert_ne!(first, run(8));
    assert!(first.iter().any(Result::is_err) && first.iter().flatten().any(|len| *len < 64));

    let counts = {
        faults::inject(7, [1000, 0, 0, 0, 0]);
        let (ours, theirs) = UnixStream::pair().unwrap();
        for len in [1, 64] {
            let moved = sockets::send(theirs.as_raw_fd(), &vec![1; len]).unwrap();
            assert!(
                (1..=len).contains(&moved),
                "at least one byte, or it would be mistaken for an end"
            );
        }
        drop(ours);
        faults::inject(0, [1000; faults::KINDS.len()])
    };
    assert_eq!(counts, [2, 0, 0, 0, 0]);

    let (ours, theirs) = UnixStream::pair().unwrap();
    assert_eq!(
        sockets::send(theirs.as_raw_fd(), &[1; 64]).unwrap(),
        64,
        "zero is off, whatever the rates"
    );
    assert_eq!(sockets::recv_into(ours.as_raw_fd(), &mut [0; 64]).unwrap(), 64);
}
