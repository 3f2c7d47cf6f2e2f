//! From a host and a port to a connection: resolved once, each address judged, and connected to just those.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::timeout;
use twobox_model::egress::{Egress, Host, Target};
use twobox_shared::errors::for_a_terminal;
use twobox_system::blocking::blocking;

use super::Turns;
use super::lookups::{Lookups, PATIENCE, Patience};
use crate::caller::Caller;
use crate::refusal::{Refusal, Why};

/// How long one address may take to answer, and how many of a name are tried.
const CONNECT: Duration = Duration::from_secs(5);
const ADDRESSES_MAX: usize = 4;

/// Says which addresses a name stands for. It may block.
pub type Resolver = Arc<dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync>;

/// The way out, for all sessions.
pub(crate) struct Reach {
    resolver: Resolver,
    lookups: Lookups,
    /// The connections of all sessions.
    pub(crate) turns: Turns,
    patience: Patience,
}

impl Reach {
    /// By what `resolver` says.
    pub(crate) fn new(resolver: Resolver) -> Self {
        let (lookups, turns) = (Lookups::default(), Turns::default());
        Self { resolver, lookups, turns, patience: PATIENCE }
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
        let connected = self.try_to_connect(caller, target).await;
        note(caller, target, connected.as_ref().err());
        connected
    }

    async fn try_to_connect(&self, caller: &Caller, target: &Target) -> Result<TcpStream, Refusal> {
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
        let unknown =
            |why: &str| Refusal::new(Why::Unreachable, format!("{target} cannot be resolved{why}"));
        let turn = match &target.host {
            Host::Name(_) => {
                let turn = async { (caller.lookup().await, self.lookups.turn(caller.agent).await) };
                Some(timeout(self.patience.turn, turn).await.map_err(|_| no_turn(target))?)
            }
            // Nobody is asked for it.
            Host::Address(_) => None,
        };
        let (resolver, host) = (Arc::clone(&self.resolver), target.host.clone());
        let looked_up = blocking(move || {
            let _until_it_is_done = turn;
            let found = match &host {
                Host::Address(address) => Ok(vec![*address]),
                Host::Name(name) => resolver(name),
            };
            found.and_then(|found| Ok((found, own()?)))
        });
        match timeout(self.patience.answer, looked_up).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => {
                tracing::debug!(session = %caller.session, %target, %error, "a name was not resolved");
                Err(unknown(""))
            }
            Err(_) => Err(unknown(": the name server says nothing")),
        }
    }
}

fn no_turn(target: &Target) -> Refusal {
    let detail = format!(
        "{target} was not looked up: other names of this agent, or of all, are still waited for; try again \
         in a moment"
    );
    Refusal::new(Why::TooMany, detail)
}

/// Says who reached what, or may not: the first time, and then how often. It is said while the way opens, for
/// one that is open may end without a word.
fn note(caller: &Caller, target: &Target, refused: Option<&Refusal>) {
    let (session, cause, now) = (caller.session, target.to_string(), Instant::now());
    match refused {
        None => {
            if let Some(before) = caller.reached.tell(&cause, now) {
                tracing::info!(%session, agent = %caller.agent, %target, before,
                    "an agent reached a host of the network");
            }
        }
        Some(refusal) if refusal.why == Why::NotAllowed => {
            if let Some(before) = caller.refused.tell(&cause, now) {
                let detail = for_a_terminal(&refusal.detail);
                tracing::info!(%session, agent = %caller.agent, detail, before,
                    "an agent was refused a host of the network");
            }
        }
        Some(_) => {}
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
    use super::super::lookups::OF_AGENT_MAX;
    use super::*;
    use crate::caller::Allowed;
    use std::sync::Mutex;
    use twobox_model::egress::Rule;
    use twobox_shared::ids::{AgentGroupId, SessionId, SystemIds};
    use twobox_system::lock::lock;

    /// One that may reach what `rules` name.
    fn caller(rules: &[&str]) -> Caller {
        let rules = rules.iter().map(|it| Rule::try_from((*it).to_owned()).unwrap()).collect();
        let egress = Arc::new(Egress::of(rules).unwrap());
        let allowance = move || Allowed { egress: Arc::clone(&egress), ..Allowed::default() };
        let (session, agent) =
            (SessionId::generate(&SystemIds), AgentGroupId::generate(&SystemIds));
        Caller::new(session, agent, "key".to_owned(), Vec::new(), Arc::new(allowance))
    }

    #[tokio::test]
    async fn what_an_agent_asks_for_is_said_beside_the_warnings_of_the_host() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().to_string();
        let caller = caller(&[&target]);
        let reach = Reach::new(Arc::new(|_| Err(io::ErrorKind::NotFound.into())));
        for n in 0..200 {
            let other = Target::parse(&format!("n{n}.example:443")).unwrap();
            assert_eq!(reach.connect(&caller, &other).await.unwrap_err().why, Why::NotAllowed);
        }
        for cause in ["one", "another"] {
            let warned = twobox_system::repeat::warned("a test of egress", cause);
            assert_eq!(warned, Some(0), "the host can still warn");
        }
        let now = Instant::now();
        assert_eq!(caller.refused.tell("n0.example:443", now), None, "it was said");
        let open = reach.connect(&caller, &Target::parse(&target).unwrap()).await.unwrap();
        assert_eq!(caller.reached.tell(&target, now), None, "said while it is open");
        drop(open);
    }

    #[tokio::test]
    async fn an_address_waits_for_no_name() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().to_string();
        let caller = caller(&[&target]);
        let reach = Reach::new(Arc::new(|_| Err(io::ErrorKind::NotFound.into())));
        let mut held = Vec::new();
        while let Ok(turn) = timeout(Duration::from_millis(20), caller.lookup()).await {
            held.push(turn);
        }
        assert!(reach.connect(&caller, &Target::parse(&target).unwrap()).await.is_ok());
    }

    #[tokio::test]
    async fn a_silent_name_server_holds_up_the_names_of_no_other_agent() {
        let (_silence, hears) = std::sync::mpsc::channel::<()>();
        let hears = Mutex::new(hears);
        let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
        let resolver: Resolver = Arc::new(move |name| {
            if name.starts_with("silent") {
                begun.send(()).unwrap();
                lock(&hears).recv().unwrap_err(); // until the test is over
            }
            Err(io::ErrorKind::NotFound.into())
        });
        let patience = Patience { turn: Duration::from_secs(2), answer: Duration::from_secs(2) };
        let reach = Arc::new(Reach { patience, ..Reach::new(resolver) });
        let agent = AgentGroupId::generate(&SystemIds);
        let mut asking = tokio::task::JoinSet::new();
        for n in 0..4 * OF_AGENT_MAX {
            let (reach, mut caller) = (Arc::clone(&reach), caller(&["*"]));
            caller.agent = agent;
            asking.spawn(async move {
                let target = Target::parse(&format!("silent{n}.org:443")).unwrap();
                reach.connect(&caller, &target).await.unwrap_err()
            });
        }
        for _ in 0..OF_AGENT_MAX {
            begins.recv().await.unwrap();
        }
        let refusal =
            reach.connect(&caller(&["*"]), &Target::parse("a.org:443").unwrap()).await.unwrap_err();
        assert_eq!(refusal.why, Why::Unreachable, "{}", refusal.detail);
        let mut ends = [0, 0];
        while let Some(refusal) = asking.join_next().await {
            match refusal.unwrap().why {
                Why::Unreachable => ends[0] += 1,
                Why::TooMany => ends[1] += 1,
                why => panic!("{why:?}"),
            }
        }
        assert_eq!(ends, [OF_AGENT_MAX, 3 * OF_AGENT_MAX], "none waits for ever");
    }

    #[tokio::test]
    async fn a_name_that_waited_for_its_turn_is_waited_for_as_long_as_any_other() {
        let (first, goes) = std::sync::mpsc::channel::<()>();
        let goes = Mutex::new(goes);
        let resolver: Resolver = Arc::new(move |_| {
            lock(&goes).recv().ok();
            Err(io::ErrorKind::NotFound.into())
        });
        let patience =
            Patience { turn: Duration::from_secs(60), answer: Duration::from_millis(50) };
        let reach = Arc::new(Reach { patience, ..Reach::new(resolver) });
        let caller = caller(&["*"]);
        let mut held = Vec::new();
        while let Some(held_too) = reach.lookups.take(caller.agent) {
            held.push(held_too);
        }
        let refused = async {
            reach.connect(&caller, &Target::parse("a.org:443").unwrap()).await.unwrap_err()
        };
        let turn = async {
            // Longer than an answer may take: the wait for a turn is none for an answer.
            tokio::time::sleep(Duration::from_millis(200)).await;
            held.pop();
        };
        let (refusal, ()) = tokio::join!(refused, turn);
        assert!(refusal.detail.contains("the name server says nothing"), "{}", refusal.detail);
        drop(first);
    }

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
