//! System calls without the C library, for a child that shares our memory: the library's wrappers write `errno`, a
//! variable of the thread that made the child.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) const SUPPORTED: bool = true;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) const SUPPORTED: bool = false;

/// What the kernel answers: a value, or an errno.
pub(super) type Answer = Result<usize, i32>;

fn answer(returned: isize) -> Answer {
    if (-4095..0).contains(&returned) {
        Err(-returned as i32)
    } else {
        Ok(returned as usize)
    }
}

/// # Safety
/// As the call with that number asks.
#[inline]
pub(super) unsafe fn call(number: libc::c_long, arguments: [usize; 5]) -> Answer {
    // SAFETY: the caller's promise.
    answer(unsafe { raw(number, arguments) })
}

#[cfg(target_arch = "x86_64")]
#[inline]
unsafe fn raw(number: libc::c_long, arguments: [usize; 5]) -> isize {
    let returned;
    // SAFETY: the kernel's convention: it keeps all registers but these, and the stack.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => returned,
            in("rdi") arguments[0], in("rsi") arguments[1], in("rdx") arguments[2],
            in("r10") arguments[3], in("r8") arguments[4],
            lateout("rcx") _, lateout("r11") _,
            options(nostack, preserves_flags),
        );
    }
    returned
}

#[cfg(target_arch = "aarch64")]
#[inline]
unsafe fn raw(number: libc::c_long, arguments: [usize; 5]) -> isize {
    let returned;
    // SAFETY: as above.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") arguments[0] => returned,
            in("x1") arguments[1], in("x2") arguments[2], in("x3") arguments[3], in("x4") arguments[4],
            options(nostack, preserves_flags),
        );
    }
    returned
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn raw(_number: libc::c_long, _arguments: [usize; 5]) -> isize {
    -(libc::ENOSYS as isize)
}
