//! Socket addresses: what goes in comes out, and bytes of any kind mean something.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use arbitrary::{Result, Unstructured};
use reactor::Address;
use reactor::address::{Meaning, v6_text};

/// `sizeof(struct sockaddr_storage)`
const LEN_MAX: usize = 128;
/// `sizeof(sockaddr_un.sun_path)`
const PATH_LEN_MAX: usize = 108;

pub fn run(input: &[u8]) {
    // An input that ends early says nothing.
    let _ = look(&mut Unstructured::new(input));
}

fn look(input: &mut Unstructured<'_>) -> Result<()> {
    match input.int_in_range(0..=3)? {
        0 => {
            let (ip, port) = (input.arbitrary::<[u8; 4]>()?, input.arbitrary()?);
            let address = Address::v4(Ipv4Addr::from(ip), port);
            assert_eq!(address.meaning(), Meaning::V4 { ip, port });
            survives(&address);
        }
        1 => {
            let (ip, port, flow_info) = (input.arbitrary::<[u8; 16]>()?, input.arbitrary()?, input.arbitrary()?);
            let scope_id = input.arbitrary()?;
            let address = Address::v6(Ipv6Addr::from(ip), port, flow_info, scope_id);
            let meaning = Meaning::V6 {
                ip,
                port,
                flow_info,
                scope_id,
            };
            assert_eq!(address.meaning(), meaning);
            survives(&address);
            assert_eq!(Ipv6Addr::from_str(&v6_text(&ip)), Ok(Ipv6Addr::from(ip)));
        }
        2 => {
            let name = input.take_rest_up_to(PATH_LEN_MAX + 4)?;
            let expected = match name {
                [] => None,
                [0, ..] => (name.len() <= PATH_LEN_MAX).then_some(Meaning::Abstract(name)),
                _ if name.contains(&0) => None,
                _ => (name.len() < PATH_LEN_MAX).then_some(Meaning::Path(name)),
            };
            let address = Address::unix(name);
            assert_eq!(address.as_ref().map(Address::meaning), expected);
            address.iter().for_each(survives);
        }
        _ => {
            let bytes = input.take_rest_up_to(LEN_MAX)?;
            let address = Address::from_bytes(bytes);
            assert_eq!(address.as_bytes(), bytes);
            assert_eq!(address.meaning() == Meaning::Nobody, bytes.len() < 2);
            if let Meaning::V6 { ip, .. } = address.meaning() {
                assert!(Ipv6Addr::from_str(&v6_text(&ip)).is_ok());
            }
            survives(&address);
        }
    }
    Ok(())
}

/// The bytes of an address are the address.
fn survives(address: &Address) {
    let again = Address::from_bytes(address.as_bytes());
    assert_eq!(again.as_bytes(), address.as_bytes());
    assert_eq!(again.meaning(), address.meaning());
    assert_eq!(format!("{again:?}"), format!("{address:?}"));
}

trait Rest<'a> {
    fn take_rest_up_to(&mut self, len_max: usize) -> Result<&'a [u8]>;
}

impl<'a> Rest<'a> for Unstructured<'a> {
    fn take_rest_up_to(&mut self, len_max: usize) -> Result<&'a [u8]> {
        let len = self.len().min(len_max);
        self.bytes(len)
    }
}
