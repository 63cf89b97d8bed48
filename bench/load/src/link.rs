//! The way to the server: a TCP socket, bare or with TLS over it.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};

pub enum Link {
    Plain(TcpStream),
    Tls(TcpStream, Box<ClientConnection>),
}

impl Link {
    /// Connects; with TLS the handshake is done when this returns. The socket is blocking until then.
    pub fn open(port: u16, tls: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        let Some(config) = tls else {
            return Ok(Self::Plain(stream));
        };
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let mut session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        // More than any message: what is written is never refused.
        session.set_buffer_limit(None);
        session.complete_io(&mut stream)?;
        Ok(Self::Tls(stream, Box::new(session)))
    }

    pub fn set_nonblocking(&self) -> io::Result<()> {
        self.stream().set_nonblocking(true)
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream().as_fd()
    }

    fn stream(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) | Self::Tls(stream, _) => stream,
        }
    }

    /// Sends as much as the kernel takes. With TLS all of `bytes` is taken at once, and `has_unsent` says what is left.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => nothing_if_blocked(stream.write(bytes)),
            Self::Tls(stream, session) => {
                if !bytes.is_empty() {
                    session.writer().write_all(bytes)?;
                }
                while session.wants_write() {
                    if nothing_if_blocked(session.write_tls(stream))? == 0 {
                        break;
                    }
                }
                Ok(bytes.len())
            }
        }
    }

    pub fn has_unsent(&self) -> bool {
        matches!(self, Self::Tls(_, session) if session.wants_write())
    }

    /// Receives once, and hands over what came in as many pieces as there are. False: the peer has closed.
    pub fn receive(&mut self, buffer: &mut [u8], mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<bool> {
        match self {
            Self::Plain(stream) => match stream.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => take(&buffer[..count])?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            },
            Self::Tls(stream, session) => match stream.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    let mut received = &buffer[..count];
                    while !received.is_empty() {
                        session.read_tls(&mut received)?;
                        session.process_new_packets().map_err(io::Error::other)?;
                        hand_over(session, &mut take)?;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            },
        }
        Ok(true)
    }
}

fn hand_over(session: &mut ClientConnection, take: &mut impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut plain = [0; 16 * 1024];
    loop {
        match nothing_if_blocked(session.reader().read(&mut plain))? {
            0 => return Ok(()),
            count => take(&plain[..count])?,
        }
    }
}

fn nothing_if_blocked(answer: io::Result<usize>) -> io::Result<usize> {
    match answer {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        answer => answer,
    }
}

/// TLS 1.3, no resumption, and no look at the certificate: the servers of these benchmarks make their own.
pub fn config() -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
