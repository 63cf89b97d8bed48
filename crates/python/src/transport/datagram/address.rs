//! Addresses of datagrams: the tuples, strings and bytes that the socket module makes of the kernel's, and back.
//!
//! A peer mostly sends again, or is answered. So the last internet peers are kept with the tuple made for each: the next
//! datagram of one gets that tuple, and who answers hands in that very tuple, which needs no look inside.

use super::DatagramTransport;
use crate::ffi::error::{PyResult, owned};
use crate::ffi::{Obj, Raw, c, call, object};
use reactor::Address;
use reactor::address::{Meaning, v6_text};
use std::net::{Ipv4Addr, Ipv6Addr};

/// How many peers are kept: a power of two.
const PEERS: usize = 64;

/// `sizeof(struct sockaddr_in6)`; longer addresses are not kept.
const KEPT_LEN_MAX: usize = 28;

struct Peer {
    /// A tuple of strings and numbers: dropping it runs no Python code.
    object: Obj,
    /// It is what the socket module makes of the address. A program may write addresses in other ways, too.
    is_usual: bool,
    bytes: [u8; KEPT_LEN_MAX],
    len: u8,
}

impl Peer {
    #[inline]
    fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The last internet peers; made when the first is kept.
#[derive(Default)]
pub(super) struct Peers(Option<Box<Known>>);

struct Known {
    /// By a hash of their addresses.
    by_address: [Option<Peer>; PEERS],
    /// Where the peer lies whose object is in this place of memory.
    by_object: [u8; PEERS],
}

impl Peers {
    #[inline]
    fn object_of(&self, bytes: &[u8]) -> Option<Obj> {
        let peer = self.0.as_ref()?.by_address[place_of(bytes)].as_ref()?;
        (peer.is_usual && peer.bytes() == bytes).then(|| peer.object.clone())
    }

    /// The address of a tuple that this transport made, or has seen before.
    #[inline]
    fn bytes_of(&self, object: Raw) -> Option<&[u8]> {
        let known = self.0.as_ref()?;
        let index = usize::from(known.by_object[place_of_object(object)]);
        let peer = known.by_address[index].as_ref()?;
        peer.object.is(object).then(|| peer.bytes())
    }

    /// Gives back whom it replaces.
    fn keep(&mut self, address: &[u8], object: &Obj, is_usual: bool) -> Option<Obj> {
        if address.len() > KEPT_LEN_MAX {
            return None;
        }
        let known = self.0.get_or_insert_with(|| {
            Box::new(Known {
                by_address: [const { None }; PEERS],
                by_object: [0; PEERS],
            })
        });
        let mut bytes = [0; KEPT_LEN_MAX];
        bytes[..address.len()].copy_from_slice(address);
        let place = place_of(address);
        known.by_object[place_of_object(object.as_ptr())] = place as u8;
        let peer = Peer {
            object: object.clone(),
            is_usual,
            bytes,
            len: address.len() as u8,
        };
        known.by_address[place].replace(peer).map(|peer| peer.object)
    }
}

/// Port and last bytes of the address differ most among peers.
#[inline]
fn place_of(bytes: &[u8]) -> usize {
    let at = |index: usize| bytes.get(index).copied().map_or(0, usize::from);
    (at(3) ^ at(2).rotate_left(3) ^ at(7) ^ at(22) ^ at(23)) % PEERS
}

#[inline]
fn place_of_object(object: Raw) -> usize {
    // Tuples of a pool lie 16 bytes apart at least.
    ((object as usize >> 4) ^ (object as usize >> 10)) % PEERS
}

impl DatagramTransport {
    /// The sender as Python knows it. None, the object, if there is none.
    #[inline]
    pub(super) fn object_of(&self, address: &Address) -> PyResult<Obj> {
        if let Some(object) = self.with_peers(|peers| peers.object_of(address.as_bytes())) {
            return Ok(object);
        }
        let object = make_object(address)?;
        if matches!(address.meaning(), Meaning::V4 { .. } | Meaning::V6 { .. }) {
            let replaced = self.with_peers(|peers| peers.keep(address.as_bytes(), &object, true));
            drop(replaced);
        }
        Ok(object)
    }

    /// Calls `send` with the kernel's address for `object`. None if that is not plain: a name to be looked up, or an
    /// error to be worded.
    #[inline]
    pub(super) fn with_address<T>(&self, object: Raw, send: impl FnOnce(&[u8]) -> T) -> Option<T> {
        // SAFETY: A1; a live object.
        let is_tuple = unsafe { c::PyTuple_CheckExact(object) } != 0;
        if is_tuple {
            let known = self.with_peers(|peers| {
                let bytes = peers.bytes_of(object)?;
                let mut copy = [0; KEPT_LEN_MAX];
                copy[..bytes.len()].copy_from_slice(bytes);
                Some((copy, bytes.len()))
            });
            if let Some((bytes, len)) = known {
                return Some(send(&bytes[..len]));
            }
        }
        let family = self.family.get();
        let address = if is_tuple {
            internet_address(object, family)?
        } else if family == libc::AF_UNIX {
            unix_address(object)?
        } else {
            return None;
        };
        if is_tuple {
            let is_usual = is_usual(object, &address);
            let object = Obj::from_borrowed(object);
            let replaced = self.with_peers(|peers| peers.keep(address.as_bytes(), &object, is_usual));
            drop(replaced);
        }
        Some(send(address.as_bytes()))
    }
}

#[cold]
fn make_object(address: &Address) -> PyResult<Obj> {
    match address.meaning() {
        Meaning::V4 { ip, port } => {
            let host = call::string(&Ipv4Addr::from(ip).to_string())?;
            call::tuple(&[host.as_ptr(), call::int(i64::from(port))?.as_ptr()])
        }
        Meaning::V6 {
            ip,
            port,
            flow_info,
            scope_id,
        } => {
            let host = call::string(&v6_text(&ip))?;
            let (port, flow_info, scope_id) = (
                call::int(i64::from(port))?,
                call::int(i64::from(flow_info))?,
                call::int(i64::from(scope_id))?,
            );
            call::tuple(&[host.as_ptr(), port.as_ptr(), flow_info.as_ptr(), scope_id.as_ptr()])
        }
        Meaning::Path(path) => {
            // SAFETY: A1; as long as the slice.
            owned(unsafe { c::PyUnicode_DecodeFSDefaultAndSize(path.as_ptr().cast(), path.len() as isize) })
        }
        Meaning::Abstract(name) => {
            // SAFETY: A1; as long as the slice.
            owned(unsafe { c::PyBytes_FromStringAndSize(name.as_ptr().cast(), name.len() as isize) })
        }
        Meaning::Nobody | Meaning::Other => Ok(Obj::none()),
    }
}

/// `(host, port)`, for IPv6 with flow info and scope id: an address in digits and plain numbers in range.
fn internet_address(tuple: Raw, family: i32) -> Option<Address> {
    let len = call::tuple_len(tuple);
    let item = |index| call::tuple_item(tuple, index);
    if len < 2 {
        return None;
    }
    let port = number(item(1), u32::from(u16::MAX))? as u16;
    match (family, len) {
        (libc::AF_INET, 2) => Some(Address::v4(ascii(item(0))?.parse::<Ipv4Addr>().ok()?, port)),
        (libc::AF_INET6, 2..=4) => {
            let ip = ascii(item(0))?.parse::<Ipv6Addr>().ok()?;
            let flow_info = if len > 2 { number(item(2), 0xf_ffff)? } else { 0 };
            let scope_id = if len > 3 { number(item(3), u32::MAX)? } else { 0 };
            Some(Address::v6(ip, port, flow_info, scope_id))
        }
        _ => None,
    }
}

/// Is the tuple, from which `address` was made, what the socket module would make of it? IPv4 addresses have one way to be
/// written; those of IPv6 have many, and their tuples may be short.
fn is_usual(tuple: Raw, address: &Address) -> bool {
    match address.meaning() {
        Meaning::V6 { ip, .. } => {
            call::tuple_len(tuple) == 4 && ascii(call::tuple_item(tuple, 0)).is_some_and(|host| host == v6_text(&ip))
        }
        _ => true,
    }
}

/// A path or an abstract name, as text in ASCII or as bytes.
fn unix_address(name: Raw) -> Option<Address> {
    // SAFETY: A1; a live object.
    if unsafe { c::PyBytes_CheckExact(name) } != 0 {
        return crate::transport::buffer::with_bytes(name, Address::unix).ok()?;
    }
    Address::unix(ascii(name)?.as_bytes())
}

/// The text of a plain string of ASCII characters, which lives as long as the string.
fn ascii<'a>(text: Raw) -> Option<&'a str> {
    if object::type_of(text) != &raw mut c::PyUnicode_Type {
        return None;
    }
    let mut len = 0;
    // SAFETY: A1; a string, whose characters are kept with it.
    let data = unsafe { c::PyUnicode_AsUTF8AndSize(text, &raw mut len) };
    if data.is_null() {
        crate::ffi::error::clear();
        return None;
    }
    // SAFETY: `len` bytes of valid UTF-8, which live as long as the string: longer than this call.
    let text = unsafe { std::str::from_utf8_unchecked(std::slice::from_raw_parts(data.cast(), len as usize)) };
    text.is_ascii().then_some(text)
}

/// An int, not of a subclass, from 0 to `max`.
fn number(value: Raw, max: u32) -> Option<u32> {
    if object::type_of(value) != &raw mut c::PyLong_Type {
        return None;
    }
    let mut overflow = 0;
    // SAFETY: A1; an int.
    let value = unsafe { c::PyLong_AsLongLongAndOverflow(value, &raw mut overflow) };
    u32::try_from(value).ok().filter(|value| overflow == 0 && *value <= max)
}
