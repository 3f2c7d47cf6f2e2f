//! From a host and a port to a connection: resolved once, each address judged, and connected to just those.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use twobox_model::egress::{Egress, Host, Target};
use twobox_system::blocking::blocking;

use crate::caller::Caller;
use crate::refusal::{Refusal, Why};

/// How many names all sessions together may have looked up at once. Each takes a thread for as long as the
/// system's resolver likes.
const LOOKUPS_MAX: usize = 64;

/// How long a name may take to be resolved, with the wait for a turn to.
const LOOKUP: Duration = Duration::from_secs(15);

/// How long one address may take to answer, and how many of a name are tried.
const CONNECT: Duration = Duration::from_secs(5);
const ADDRESSES_MAX: usize = 4;

/// Says which addresses a name stands for. It may block.
pub type Resolver = Arc<dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync>;

/// The way out, for all sessions.
pub(crate) struct Reach {
    resolver: Resolver,
    lookups: Arc<Semaphore>,
}

impl Reach {
    /// By what `resolver` says.
    pub(crate) fn new(resolver: Resolver) -> Self {
        Self { resolver, lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)) }
    }

    /// A connection to `target`, if `caller` may have one.
    ///
    /// # Errors
    /// [`Why::NotAllowed`] if not, [`Why::Unreachable`] if it does not answer.
    pub(crate) async fn connect(
        &self,
        caller: &Caller,
        target: &Target,
    ) -> Result<TcpStream, Refusal> {
        let egress = caller.allowed().await.egress;
        if !egress.names(target) {
            let detail =
                format!("this agent may not reach {target}: its \"egress\" does not name it");
            return Err(Refusal::new(Why::NotAllowed, detail));
        }
        let (found, own) = self.look_up(caller, target).await?;
        let addresses = admitted(&egress, target, &found, &own)?;
        for address in addresses {
            if let Ok(Ok(stream)) = timeout(CONNECT, TcpStream::connect(address)).await {
                // Small pieces are sent at once. Where that cannot be set, they wait a moment.
                stream.set_nodelay(true).ok();
                return Ok(stream);
            }
        }
        Err(Refusal::new(Why::Unreachable, format!("{target} cannot be reached")))
    }

    /// The addresses of `target`, and those of this machine.
    async fn look_up(
        &self,
        caller: &Caller,
        target: &Target,
    ) -> Result<(Vec<IpAddr>, Vec<IpAddr>), Refusal> {
        let silent = || Refusal::new(Why::Unreachable, format!("{target} cannot be resolved"));
        let turns =
            async { (caller.lookup().await, Arc::clone(&self.lookups).acquire_owned().await) };
        let (resolver, host) = (Arc::clone(&self.resolver), target.host.clone());
        let looked_up = async {
            let turns = turns.await;
            blocking(move || {
                let _until_it_is_done = turns;
                let found = match &host {
                    Host::Address(address) => Ok(vec![*address]),
                    Host::Name(name) => resolver(name),
                };
                found.and_then(|found| Ok((found, own()?)))
            })
            .await
        };
        match timeout(LOOKUP, looked_up).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => {
                tracing::debug!(session = %caller.session, %target, %error, "a name was not resolved");
                Err(silent())
            }
            Err(_) => Err(silent()),
        }
    }
}

/// Those of the addresses `found` that `egress` leads to, as many as are tried.
fn admitted(
    egress: &Egress,
    target: &Target,
    found: &[IpAddr],
    own: &[IpAddr],
) -> Result<Vec<SocketAddr>, Refusal> {
    let mut addresses = Vec::new();
    let mut refused = None;
    for address in found {
        match egress.leads_to(*address, target.port, own) {
            Ok(()) => addresses.push(SocketAddr::new(*address, target.port)),
            Err(kind) => refused = Some(kind),
        }
    }
    addresses.truncate(ADDRESSES_MAX);
    match (addresses.is_empty(), refused) {
        (false, _) => Ok(addresses),
        (true, None) => {
            Err(Refusal::new(Why::Unreachable, format!("{target} stands for no address")))
        }
        (true, Some(kind)) => Err(Refusal::new(
            Why::NotAllowed,
            format!(
                "{target} leads to {kind}, which only a rule with that address and port allows"
            ),
        )),
    }
}

/// The system's resolver.
pub(crate) fn system() -> Resolver {
    Arc::new(|name| Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect()))
}

/// The addresses of this machine's interfaces.
fn own() -> io::Result<Vec<IpAddr>> {
    let address = |storage: nix::sys::socket::SockaddrStorage| {
        let four = storage.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
        four.or_else(|| storage.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip())))
    };
    Ok(nix::ifaddrs::getifaddrs()?.filter_map(|it| it.address).filter_map(address).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use twobox_model::egress::Rule;

    #[test]
    fn this_machine_knows_its_own_addresses() {
        let own = own().unwrap();
        assert!(own.iter().any(IpAddr::is_loopback), "{own:?}");
    }

    #[test]
    fn of_the_addresses_of_a_name_those_inside_are_left_out() {
        let egress = Egress::of(vec![Rule::try_from("a.org".to_owned()).unwrap()]).unwrap();
        let target = Target::parse("a.org:443").unwrap();
        let of = |texts: &[&str]| {
            let found: Vec<IpAddr> = texts.iter().map(|it| it.parse().unwrap()).collect();
            let admitted = admitted(&egress, &target, &found, &[]);
            admitted.map(|it| it.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(of(&["10.0.0.1", "1.1.1.1"]).unwrap(), ["1.1.1.1:443"]);
        let refusal = of(&["169.254.169.254", "::1"]).unwrap_err();
        assert_eq!(refusal.why, Why::NotAllowed);
        assert!(!refusal.detail.contains("169"), "no address is told: {}", refusal.detail);
        assert_eq!(of(&[]).unwrap_err().why, Why::Unreachable);
        assert_eq!(of(&["1.1.1.1"; 9]).unwrap().len(), ADDRESSES_MAX);
    }
}
