//! Real children: what they inherit, how they end, and why some never run.

// A child begins with getrlimit and vfork, and ends on a pidfd; Miri has none of them.
#![cfg(not(miri))]

use reactor::{Child, Exit, Failure, Plan};
use rustix::event::{PollFd, PollFlags, poll};
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

fn strings(texts: &[&str]) -> Vec<CString> {
    texts.iter().map(|text| CString::new(*text).unwrap()).collect()
}

fn plan(arguments: &[&str]) -> Plan {
    Plan {
        programs: strings(&arguments[..1]),
        arguments: strings(arguments),
        environment: Some(strings(&["A=1"])),
        directory: None,
        stdio: [-1; 3],
        parent_ends: [-1; 3],
        kept: Vec::new(),
        close_others: true,
        restore_signals: true,
        new_session: false,
        process_group: None,
        umask: None,
    }
}

fn wait_for(fd: RawFd) {
    // SAFETY: open for as long as the child object, which the callers hold.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let mut polled = [PollFd::new(&fd, PollFlags::IN)];
    while poll(&mut polled, None).is_err() {}
}

fn outcome(child: &mut Child) -> Result<(), Failure> {
    loop {
        if let Some(outcome) = child.exec_outcome() {
            return outcome;
        }
        wait_for(child.exec_fd().unwrap());
    }
}

fn exit(child: &mut Child) -> Exit {
    wait_for(child.pidfd().expect("this kernel has pidfds"));
    child.reap().unwrap().expect("it has exited")
}

fn pipe() -> (File, OwnedFd) {
    let (reads, writes) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    (File::from(reads), writes)
}

/// What a shell script prints.
fn printed(script: &str, change: impl FnOnce(&mut Plan)) -> String {
    let (mut reads, writes) = pipe();
    let mut plan = plan(&["/bin/sh", "-c", script]);
    plan.stdio[1] = writes.as_raw_fd();
    plan.parent_ends[1] = reads.as_raw_fd();
    change(&mut plan);
    let mut child = Child::start(plan).unwrap();
    drop(writes);
    assert_eq!(outcome(&mut child), Ok(()));
    let mut text = String::new();
    reads.read_to_string(&mut text).unwrap();
    assert_eq!(exit(&mut child), Exit::Status(0));
    text
}

#[test]
fn statuses_and_signals() {
    for (script, expected) in [
        ("exit 0", Exit::Status(0)),
        ("exit 255", Exit::Status(255)),
        ("kill -TERM $$", Exit::Signal(15)),
    ] {
        let mut child = Child::start(plan(&["/bin/sh", "-c", script])).unwrap();
        assert!(child.pid() > 0);
        assert_eq!(outcome(&mut child), Ok(()));
        assert_eq!(child.exec_fd(), None);
        assert_eq!(exit(&mut child), expected);
        assert_eq!(child.pidfd(), None);
        child.kill().unwrap();
    }
}

#[test]
fn programs_that_do_not_run() {
    let failures = [
        (plan(&["/no/such/program"]), Failure::Program(libc::ENOENT)),
        (plan(&["/etc/passwd"]), Failure::Program(libc::EACCES)),
        (
            Plan {
                programs: strings(&["/etc/passwd", "/no/such/program", "/etc/passwd/x"]),
                ..plan(&["x"])
            },
            Failure::Program(libc::EACCES),
        ),
        (
            Plan {
                directory: Some(CString::new("/no/such").unwrap()),
                ..plan(&["/bin/true"])
            },
            Failure::Directory(libc::ENOENT),
        ),
        (
            Plan {
                kept: vec![1000],
                ..plan(&["/bin/true"])
            },
            Failure::Preparation(libc::EBADF),
        ),
        (
            Plan {
                stdio: [-77, -1, -1],
                ..plan(&["/bin/true"])
            },
            Failure::Preparation(libc::EBADF),
        ),
    ];
    for (plan, expected) in failures {
        let mut child = Child::start(plan).unwrap();
        assert_eq!(outcome(&mut child), Err(expected));
        assert_eq!(exit(&mut child), Exit::Status(255));
    }
}

#[test]
fn the_first_program_that_can_run() {
    let text = printed("echo $0", |plan| {
        plan.programs = strings(&["/no/such/sh", "/etc/passwd/sh", "/bin/sh"]);
    });
    assert_eq!(text, "/bin/sh\n");
}

#[test]
fn what_it_inherits() {
    // 3 is the shell's own, for the listing.
    let list = "cd /proc/$$/fd && echo *";
    assert_eq!(printed(list, |_| ()), "0 1 2 3\n");
    let (reads, _writes) = pipe();
    // SAFETY: a fresh duplicate.
    let high = unsafe { OwnedFd::from_raw_fd(libc::fcntl(reads.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 100)) };
    let kept = format!("0 1 {} 2 3\n", high.as_raw_fd());
    assert_eq!(printed(list, |plan| plan.kept = vec![high.as_raw_fd()]), kept);
    let kept_only = printed(list, |plan| {
        plan.kept = vec![high.as_raw_fd()];
        plan.close_others = false;
    });
    assert!(kept_only.contains(&format!(" {} ", high.as_raw_fd())), "{kept_only}");

    assert_eq!(
        printed("echo $A; pwd; umask", |plan| {
            plan.directory = Some(CString::new("/").unwrap());
            plan.umask = Some(0o27);
        }),
        "1\n/\n0027\n"
    );
    assert_eq!(
        printed("test -n \"$PATH\" && echo yes", |plan| plan.environment = None),
        "yes\n"
    );
}

#[test]
fn a_child_dropped_while_it_starts_goes_its_way() {
    for _ in 0..50 {
        let child = Child::start(plan(&["/bin/true"])).unwrap();
        let pid = child.pid();
        drop(child);
        let mut again = Child::open(pid).unwrap();
        assert_eq!(exit(&mut again), Exit::Status(0));
    }
}

#[test]
fn killed_before_or_after_its_program() {
    for _ in 0..50 {
        let mut child = Child::start(plan(&["/bin/sleep", "60"])).unwrap();
        child.kill().unwrap();
        assert_eq!(exit(&mut child), Exit::Signal(9));
        assert_eq!(child.exec_outcome(), Some(Ok(())));
    }
}

#[test]
fn somebody_else_reaps() {
    let mut child = Child::start(plan(&["/bin/true"])).unwrap();
    // SAFETY: no status is wanted.
    let reaped = unsafe { libc::waitpid(child.pid(), std::ptr::null_mut(), 0) };
    assert_eq!(reaped, child.pid());
    assert_eq!(child.reap().unwrap_err().raw_os_error(), Some(libc::ECHILD));
    assert!(Child::open(child.pid()).is_err());
}

#[test]
fn from_many_threads() {
    std::thread::scope(|scope| {
        for number in 0..4 {
            scope.spawn(move || {
                for _ in 0..20 {
                    let script = format!("exit {number}");
                    let mut child = Child::start(plan(&["/bin/sh", "-c", &script])).unwrap();
                    assert_eq!(outcome(&mut child), Ok(()));
                    assert_eq!(exit(&mut child), Exit::Status(number));
                }
            });
        }
    });
}
