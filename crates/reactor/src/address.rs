//! Socket addresses as the kernel writes them: bytes that can be compared and kept, and what they mean.

use std::ffi::CStr;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::sys;

/// `sizeof(struct sockaddr_storage)`: no address is longer.
const LEN_MAX: usize = 128;
/// `sizeof(struct sockaddr_in)` and `sizeof(struct sockaddr_in6)`.
const V4_LEN: usize = 16;
const V6_LEN: usize = 28;
/// `offsetof(struct sockaddr_un, sun_path)`, and its length.
const PATH_START: usize = 2;
const PATH_LEN_MAX: usize = 108;

/// A `sockaddr` of any family, or none.
#[derive(Clone)]
#[repr(C, align(8))]
pub struct Address {
    bytes: [u8; LEN_MAX],
    len: usize,
}

/// What an address says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning<'a> {
    /// No address: the sender has none, or the socket knows it already.
    Nobody,
    /// `AF_INET`.
    V4 { ip: [u8; 4], port: u16 },
    /// `AF_INET6`.
    V6 {
        ip: [u8; 16],
        port: u16,
        flow_info: u32,
        scope_id: u32,
    },
    /// `AF_UNIX`, a path in the file system (empty: a socket without a name).
    Path(&'a [u8]),
    /// `AF_UNIX`, a name in Linux's own name space, with the NUL it begins with.
    Abstract(&'a [u8]),
    /// Another family.
    Other,
}

impl Address {
    /// No address, to receive one in.
    pub const fn nobody() -> Self {
        Self {
            bytes: [0; LEN_MAX],
            len: 0,
        }
    }

    /// `AF_INET`.
    pub fn v4(ip: Ipv4Addr, port: u16) -> Self {
        let mut address = Self::of_family(libc::AF_INET, V4_LEN);
        address.bytes[2..4].copy_from_slice(&port.to_be_bytes());
        address.bytes[4..8].copy_from_slice(&ip.octets());
        address
    }

    /// `AF_INET6`.
    pub fn v6(ip: Ipv6Addr, port: u16, flow_info: u32, scope_id: u32) -> Self {
        let mut address = Self::of_family(libc::AF_INET6, V6_LEN);
        address.bytes[2..4].copy_from_slice(&port.to_be_bytes());
        address.bytes[4..8].copy_from_slice(&flow_info.to_be_bytes());
        address.bytes[8..24].copy_from_slice(&ip.octets());
        address.bytes[24..28].copy_from_slice(&scope_id.to_ne_bytes());
        address
    }

    /// `AF_UNIX`: a path, or an abstract name if it begins with a NUL. `None` if it does not fit, or holds a NUL elsewhere.
    pub fn unix(name: &[u8]) -> Option<Self> {
        let is_path = *name.first()? != 0;
        let len = name.len() + usize::from(is_path);
        if len > PATH_LEN_MAX || is_path && name.contains(&0) {
            return None;
        }
        let mut address = Self::of_family(libc::AF_UNIX, PATH_START + len);
        address.bytes[PATH_START..PATH_START + name.len()].copy_from_slice(name);
        Some(address)
    }

    fn of_family(family: i32, len: usize) -> Self {
        let mut address = Self::nobody();
        address.bytes[..2].copy_from_slice(&(family as u16).to_ne_bytes());
        address.len = len;
        address
    }

    /// The `sockaddr`, byte by byte: the same bytes are the same address.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// From bytes that [`as_bytes`](Self::as_bytes) gave.
    #[inline]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut address = Self::nobody();
        address.bytes[..bytes.len()].copy_from_slice(bytes);
        address.len = bytes.len();
        address
    }

    /// What it says.
    pub fn meaning(&self) -> Meaning<'_> {
        let bytes = self.as_bytes();
        let Some((family, _)) = bytes.split_first_chunk::<2>() else {
            return Meaning::Nobody;
        };
        let number = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        match i32::from(u16::from_ne_bytes(*family)) {
            libc::AF_INET if bytes.len() >= V4_LEN => Meaning::V4 {
                ip: number(4),
                port: u16::from_be_bytes([bytes[2], bytes[3]]),
            },
            libc::AF_INET6 if bytes.len() >= V6_LEN => {
                let mut ip = [0; 16];
                ip.copy_from_slice(&bytes[8..24]);
                Meaning::V6 {
                    ip,
                    port: u16::from_be_bytes([bytes[2], bytes[3]]),
                    flow_info: u32::from_be_bytes(number(4)),
                    scope_id: u32::from_ne_bytes(number(24)),
                }
            }
            libc::AF_UNIX => match &bytes[PATH_START..] {
                name @ [0, ..] => Meaning::Abstract(name),
                name => Meaning::Path(name.split(|byte| *byte == 0).next().unwrap_or_default()),
            },
            _ => Meaning::Other,
        }
    }

    /// For the calls in `sys.rs`: where the kernel reads and writes.
    #[inline]
    pub(crate) fn parts(&mut self) -> (&mut [u8; LEN_MAX], &mut usize) {
        (&mut self.bytes, &mut self.len)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.meaning().fmt(f)
    }
}

/// An IPv6 address as `inet_ntop` writes it. (Rust's own text differs for addresses that hold an IPv4 one.)
pub fn v6_text(ip: &[u8; 16]) -> String {
    let mut buffer = [0_u8; 64];
    sys::inet_ntop6(ip, &mut buffer);
    let text = CStr::from_bytes_until_nul(&buffer).unwrap_or_default();
    text.to_string_lossy().into_owned()
}
