//! Addresses of datagrams, and what moves between sockets that have them.

#![cfg(not(loom))]

use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

use proptest::prelude::*;
use reactor::address::{Address, Meaning, v6_text};
use reactor::sockets;

fn receive(fd: i32, buffer: &mut [MaybeUninit<u8>]) -> (usize, Address) {
    let mut sender = Address::nobody();
    let len = sockets::recvfrom(fd, buffer, &mut sender).unwrap();
    (len, sender)
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no sendto")]
fn internet_addresses_come_back_as_they_went() {
    let mut buffer = [MaybeUninit::uninit(); 16];
    let (one, other) = (
        UdpSocket::bind("127.0.0.1:0").unwrap(),
        UdpSocket::bind("127.0.0.1:0").unwrap(),
    );
    let to = Address::v4(Ipv4Addr::LOCALHOST, other.local_addr().unwrap().port());
    assert_eq!(sockets::sendto(one.as_raw_fd(), b"hello", to.as_bytes()).unwrap(), 5);
    let (len, sender) = receive(other.as_raw_fd(), &mut buffer);
    assert_eq!(len, 5);
    let port = one.local_addr().unwrap().port();
    assert_eq!(
        sender.meaning(),
        Meaning::V4 {
            ip: [127, 0, 0, 1],
            port
        }
    );
    assert_eq!(sender.as_bytes(), Address::v4(Ipv4Addr::LOCALHOST, port).as_bytes());
    assert_eq!(sockets::family(one.as_raw_fd()).unwrap(), libc::AF_INET);
    assert_eq!(
        sockets::recvfrom(other.as_raw_fd(), &mut buffer, &mut Address::nobody())
            .unwrap_err()
            .kind(),
        std::io::ErrorKind::WouldBlock
    );
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no sockets of AF_UNIX")]
fn unix_names_of_all_kinds() {
    let folder = std::env::temp_dir().join(format!("asynchrotron-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("socket");
    let server = UnixDatagram::bind(&path).unwrap();
    let to = Address::unix(path.as_os_str().as_encoded_bytes()).unwrap();
    let mut buffer = [MaybeUninit::uninit(); 16];
    let unnamed = UnixDatagram::unbound().unwrap();
    sockets::sendto(unnamed.as_raw_fd(), b"x", to.as_bytes()).unwrap();
    assert_eq!(receive(server.as_raw_fd(), &mut buffer).1.meaning(), Meaning::Nobody);
    sockets::sendto(server.as_raw_fd(), b"x", to.as_bytes()).unwrap();
    let (_, sender) = receive(server.as_raw_fd(), &mut buffer);
    assert_eq!(sender.meaning(), Meaning::Path(path.as_os_str().as_encoded_bytes()));
    assert_eq!(sender.as_bytes(), to.as_bytes());
    std::fs::remove_dir_all(&folder).unwrap();
    let name = [
        b"\0asynchrotron-test-".as_slice(),
        std::process::id().to_string().as_bytes(),
    ]
    .concat();
    assert_eq!(Address::unix(&name).unwrap().meaning(), Meaning::Abstract(&name));
}

#[test]
fn names_that_do_not_fit() {
    assert!(Address::unix(b"").is_none());
    assert!(Address::unix(b"a\0b").is_none());
    assert!(Address::unix(&[b'x'; 107]).is_some());
    assert!(Address::unix(&[b'x'; 108]).is_none());
    assert!(Address::unix(&[0; 108]).is_some());
    assert!(Address::unix(&[0; 109]).is_none());
}

/// As the C library writes them, which is what Python shows.
#[test]
#[cfg_attr(miri, ignore = "Miri has no inet_ntop")]
fn texts_of_ipv6() {
    for text in [
        "::",
        "::1",
        "fe80::1",
        "2001:db8::8a2e:370:7334",
        "::ffff:1.2.3.4",
        "1:0:0:2::3",
    ] {
        let ip: Ipv6Addr = text.parse().unwrap();
        assert_eq!(v6_text(&ip.octets()), text);
    }
    assert_eq!(v6_text(&"::1.2.3.4".parse::<Ipv6Addr>().unwrap().octets()), "::1.2.3.4");
}

proptest! {
    #[test]
    fn what_is_written_can_be_read(ip: [u8; 16], port: u16, flow_info: u32, scope_id: u32) {
        let address = Address::v6(Ipv6Addr::from(ip), port, flow_info, scope_id);
        let expected = Meaning::V6 { ip, port, flow_info, scope_id };
        prop_assert_eq!(address.meaning(), expected);
    }

    #[test]
    fn bytes_of_any_kind_mean_something(name in proptest::collection::vec(any::<u8>(), 1..120)) {
        if let Some(address) = Address::unix(&name) {
            match address.meaning() {
                Meaning::Path(path) => prop_assert_eq!(path, &name[..]),
                Meaning::Abstract(shown) => prop_assert_eq!(shown, &name[..]),
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }
}
