//! Who is let in and who has to go, without sockets.

use std::net::{IpAddr, SocketAddr};
use std::sync::Weak;

use super::super::place::UnderWay;
use super::*;

struct House {
    table: Table,
    begun: Instant,
    now: Instant,
}

impl House {
    fn new(limits: Limits) -> Self {
        let begun = Instant::now();
        Self { table: Table::new(limits), begun, now: begun }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Lets in one from `address`; who had to go for it, or why it was refused.
    fn admit(&mut self, address: &str) -> Result<(Arc<Place>, Vec<GoneId>), Refused> {
        let peer = match address {
            "unix" => Peer::Unix,
            address => Peer::from(SocketAddr::new(address.parse::<IpAddr>().unwrap(), 1)),
        };
        let (begun, now) = (self.begun, self.now);
        let admitted = self.table.admit(peer, now, |id| Arc::new(Place::new(id, Weak::new(), begun, now)));
        self.check_invariants();
        admitted.map(|(place, gone)| (place, gone.iter().map(|(place, why)| (place.id(), *why)).collect()))
    }

    /// Lets in one from `address` for which nobody has to go.
    fn admit_freely(&mut self, address: &str) -> Arc<Place> {
        let (place, gone) = self.admit(address).unwrap();
        assert_eq!(gone, []);
        place
    }

    fn prove(&mut self, place: &Place, principal: Option<&str>) -> Result<Option<(u64, Displaced)>, Refused> {
        let proven = self.table.prove(place.id(), principal, self.now);
        self.check_invariants();
        proven.map(|gone| gone.map(|(place, why)| (place.id(), why)))
    }

    fn check_invariants(&self) {
        let Table { limits, seats, all, blocks, crowds, principals, .. } = &self.table;
        let crowded = blocks.iter().filter(|(_, share)| !share.unproven.is_empty());
        assert!(crowded.map(|(block, share)| (share.unproven.len(), *block)).collect::<BTreeSet<_>>() == *crowds);
        assert!(all.count <= limits.total && all.unproven.len() <= limits.unproven);
        assert_eq!(all.count, seats.len());
        assert!(blocks.values().all(|share| (1..=limits.per_address).contains(&share.count)));
        assert!(principals.values().all(|share| (1..=limits.per_principal).contains(&share.count)));
        assert_eq!(
            blocks.values().map(|share| share.count).sum::<usize>(),
            seats.values().filter(|s| s.block.is_some()).count()
        );
        assert_eq!(
            principals.values().map(|share| share.count).sum::<usize>(),
            seats.values().filter(|seat| seat.principal.is_some()).count()
        );
    }
}

/// Who had to go, and why.
type GoneId = (u64, Displaced);

const WIDE: Limits = Limits { total: 100, unproven: 100, per_address: 100, per_principal: 100 };

#[tokio::test(start_paused = true)]
async fn a_flood_from_one_address_displaces_its_own() {
    let mut house = House::new(Limits { unproven: 4, ..WIDE });
    let honest = house.admit_freely("10.0.0.1");
    let flood: Vec<_> = (0..3).map(|_| house.admit_freely("10.0.0.2")).collect();
    let (_, gone) = house.admit("10.0.0.2").unwrap();
    assert_eq!(gone, [(flood[0].id(), Displaced::Unproven)]);
    let (_, gone) = house.admit("10.0.0.3").unwrap();
    assert_eq!(gone, [(flood[1].id(), Displaced::Unproven)]);
    assert_eq!(house.prove(&honest, None), Ok(None));
    assert!(honest.is_proven(), "older than all of them, it was left time");
}

#[tokio::test(start_paused = true)]
async fn the_oldest_that_has_not_proven_itself_makes_room() {
    let mut house = House::new(Limits { unproven: 2, ..WIDE });
    let places = ["10.0.0.1", "10.0.0.2"].map(|address| house.admit_freely(address));
    house.prove(&places[0], None).unwrap();
    let third = house.admit_freely("10.0.0.3");
    let (_, gone) = house.admit("10.0.0.4").unwrap();
    assert_eq!(gone, [(places[1].id(), Displaced::Unproven)], "the older of the two, and not the proven one");
    let (_, gone) = house.admit("10.0.0.5").unwrap();
    assert_eq!(gone, [(third.id(), Displaced::Unproven)]);
}

#[tokio::test(start_paused = true)]
async fn a_full_house_sends_away_who_has_been_idle_longest() {
    let mut house = House::new(Limits { total: 3, ..WIDE });
    let mut places = Vec::new();
    for address in ["10.0.0.1", "10.0.0.2", "10.0.0.3"] {
        places.push(house.admit_freely(address));
        house.prove(&places[places.len() - 1], None).unwrap();
        house.pass(Duration::from_secs(1));
    }
    let under_way = places[0].begin_request();
    house.pass(IDLE_SPARED - Duration::from_secs(3));
    assert_eq!(house.admit("10.0.0.4").map(|_| ()), Err(Refused::Full), "none has been idle for so long");
    house.pass(Duration::from_secs(1));
    let (_, gone) = house.admit("10.0.0.4").unwrap();
    assert_eq!(gone, [(places[1].id(), Displaced::Idle)], "the first has a request under way");
    let (_, gone) = house.admit("10.0.0.5").unwrap();
    assert_eq!(gone.len(), 1, "the one that came before has proven nothing");
    drop::<UnderWay>(under_way);
}

#[tokio::test(start_paused = true)]
async fn an_address_takes_room_from_itself_only() {
    let mut house = House::new(Limits { per_address: 2, ..WIDE });
    let other = house.admit_freely("10.0.0.1");
    let first = house.admit_freely("10.0.0.2");
    house.admit_freely("10.0.0.2");
    let (_, gone) = house.admit("10.0.0.2").unwrap();
    assert_eq!(gone, [(first.id(), Displaced::Unproven)]);
    assert!(house.table.remove(other.id()).is_some(), "it is still there");
    // A network of 64 bits is one address, and a Unix socket none.
    for (address, displaces) in [("2001:db8::1", 0), ("2001:db8::2", 0), ("2001:db8:0:1::1", 0), ("2001:db8::3", 1)] {
        assert_eq!(house.admit(address).unwrap().1.len(), displaces, "{address}");
    }
    (0..10).for_each(|_| drop(house.admit_freely("unix")));
}

#[tokio::test(start_paused = true)]
async fn proven_connections_of_an_address_that_are_in_use_stay() {
    let mut house = House::new(Limits { per_address: 2, ..WIDE });
    for _ in 0..2 {
        let place = house.admit_freely("10.0.0.1");
        house.prove(&place, None).unwrap();
    }
    assert_eq!(house.admit("10.0.0.1").map(|_| ()), Err(Refused::Address));
    house.admit_freely("10.0.0.2");
    house.pass(IDLE_SPARED);
    assert!(matches!(house.admit("10.0.0.1").unwrap().1[..], [(_, Displaced::Idle)]));
}

#[tokio::test(start_paused = true)]
async fn a_principal_takes_room_from_itself_only() {
    let mut house = House::new(Limits { per_principal: 1, ..WIDE });
    let places = [(); 4].map(|()| house.admit_freely("10.0.0.1"));
    assert_eq!(house.prove(&places[0], Some("a")), Ok(None));
    assert_eq!(house.prove(&places[1], Some("b")), Ok(None));
    assert_eq!(house.prove(&places[2], Some("a")), Err(Refused::Principal));
    assert!(!places[2].is_proven());
    house.pass(IDLE_SPARED);
    assert_eq!(house.prove(&places[2], Some("a")), Ok(Some((places[0].id(), Displaced::Idle))));
    // Who has lost its place in the meantime proves nothing, and harms nobody.
    assert_eq!(house.prove(&places[0], Some("b")), Ok(None));
    assert_eq!(house.prove(&places[3], None), Ok(None));
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_is_forgotten() {
    let mut house = House::new(WIDE);
    let place = house.admit_freely("10.0.0.1");
    house.prove(&place, Some("a")).unwrap();
    house.table.remove(place.id());
    assert!(house.table.remove(place.id()).is_none());
    assert!(house.table.blocks.is_empty() && house.table.principals.is_empty());
    assert_eq!((house.table.all.count, house.table.unproven()), (0, 0));
}

/// Whatever comes, no limit is passed, and who is in use stays.
#[tokio::test(start_paused = true)]
async fn limits_hold_whatever_comes() {
    let limits = Limits { total: 12, unproven: 4, per_address: 5, per_principal: 3 };
    let mut house = House::new(limits);
    let mut random = 1_u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut known: Vec<Arc<Place>> = Vec::new();
    let mut in_use: Vec<(u64, UnderWay)> = Vec::new();
    for _ in 0..20_000 {
        let at = next(known.len().max(1) as u64) as usize;
        match (next(6), known.get(at)) {
            (0 | 1, _) | (_, None) => {
                let address = format!("10.0.0.{}", next(4));
                if let Ok((place, gone)) = house.admit(&address) {
                    for (id, why) in gone {
                        assert!(why == Displaced::Unproven || in_use.iter().all(|(used, _)| *used != id));
                    }
                    known.push(place);
                }
            }
            (2, Some(place)) => {
                let (place, principal) = (Arc::clone(place), format!("p{}", next(5)));
                let _ = house.prove(&place, Some(&principal).filter(|_| !at.is_multiple_of(3)).map(String::as_str));
            }
            (3, Some(place)) => in_use.push((place.id(), place.begin_request())),
            (4, _) => in_use.truncate(in_use.len() / 2),
            (_, Some(_)) => {
                let place = known.swap_remove(at);
                house.table.remove(place.id());
                house.check_invariants();
            }
        }
        house.pass(Duration::from_secs(next(20)));
    }
}
