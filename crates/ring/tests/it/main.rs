//! Placement against what the real clients did, and what must hold for every fleet.

mod shares;

use proptest::prelude::*;
use serde_json::Value;
use throng_ring::{BUCKETS, Placement, Ring, RingError, Server, bucket, nydus_partition};

#[test]
fn every_key_is_where_the_real_clients_put_it() {
    let vectors: Value = serde_json::from_str(include_str!("memcached_rings.json")).unwrap();
    let keys: Vec<&str> = vectors["keys"].as_array().unwrap().iter().map(text).collect();
    let mut checked = 0;
    for (column, owners) in vectors["server_index"].as_object().unwrap() {
        let (placement, fleet) = column_of(column);
        let ring = Ring::new(placement, fleet_of(&vectors["fleets"][fleet])).unwrap();
        for (key, owner) in keys.iter().zip(owners.as_array().unwrap()) {
            let owner = owner.as_u64().map(|owner| owner as usize);
            assert_eq!(ring.owner(key.as_bytes()), owner, "{column}: {key}");
            checked += 1;
        }
    }
    assert_eq!(checked, 23 * 20);
}

#[test]
fn the_circles_begin_as_libmemcacheds_do() {
    let vectors: Value = serde_json::from_str(include_str!("memcached_rings.json")).unwrap();
    for (fleet, heads) in vectors["ring_heads"].as_object().unwrap() {
        for (name, placement) in
            [("weighted_md5", Placement::KetamaWeighted), ("ketama_oaat", Placement::Ketama)]
        {
            let mut servers = fleet_of(&vectors["fleets"][fleet]);
            if placement == Placement::Ketama {
                servers.iter_mut().for_each(|server| server.weight = 1);
            }
            let ring = Ring::new(placement, servers).unwrap();
            let points = heads[name]["points"].as_u64().unwrap() as usize;
            assert_eq!(ring.points().len(), points, "{fleet} {name}");
            for (ours, theirs) in
                ring.points().iter().zip(heads[name]["first8"].as_array().unwrap())
            {
                let theirs =
                    (theirs[0].as_u64().unwrap() as u32, theirs[1].as_u64().unwrap() as usize);
                assert_eq!(*ours, theirs, "{fleet} {name}");
            }
        }
    }
}

#[test]
fn five_sizes_of_fleet_have_fewer_points_by_rounding() {
    for size in 1..=64 {
        let servers = (0..size).map(|at| Server::new(format!("10.0.0.{at}"), 11_211));
        let ring = Ring::new(Placement::KetamaWeighted, servers).unwrap();
        let each = if [25, 47, 50, 55, 61].contains(&size) { 156 } else { 160 };
        assert_eq!(ring.points().len(), size * each, "{size} servers");
    }
    let weights = [1, 2, 3, 1, 5].map(|weight| Server::new("10.0.0.1", 11_211).weight(weight));
    let ring = Ring::new(Placement::KetamaWeighted, weights).unwrap();
    let count = |server| ring.points().iter().filter(|(_, owner)| *owner == server).count();
    assert_eq!([0, 1, 2, 3, 4].map(count), [64, 132, 200, 64, 332]);
}

#[test]
fn partitions_are_those_of_nydus_on_python_2() {
    let vectors: Value = serde_json::from_str(include_str!("nydus_routers.json")).unwrap();
    for hosts in [3, 16, 64] {
        let theirs = vectors[format!("partition_{hosts}")].as_array().unwrap();
        for (key, host) in vectors["keys"].as_array().unwrap().iter().zip(theirs) {
            let ours = nydus_partition(text(key).as_bytes(), hosts).unwrap();
            assert_eq!(Some(ours as u64), host.as_u64(), "{hosts} hosts: {key}");
        }
    }
    assert_eq!(nydus_partition(b"x", 0), None);
}

#[test]
fn a_bucket_is_the_first_three_hex_digits_of_the_md5() {
    // md5("hello") = 5d41…, md5("") = d41d…
    assert_eq!((bucket(b"hello"), bucket(b"")), (0x5d4, 0xd41));
    assert!((0..10_000_u32).all(|key| bucket(&key.to_le_bytes()) < BUCKETS));
}

#[test]
fn a_wrong_ring_is_told_what_would_be_right() {
    let unknown = "consistent".parse::<Placement>().unwrap_err().to_string();
    assert!(unknown.contains("`consistent` is not a ring; there are `modula`"), "{unknown}");
    assert_eq!(Ring::new(Placement::Crc, []).unwrap_err(), RingError::NoServers);
    let weightless = Ring::new(Placement::Crc, [Server::new("a", 1).weight(0)]).unwrap_err();
    assert_eq!(weightless, RingError::Weight("a".to_owned()));
    for placement in Placement::ALL {
        assert_eq!(placement.to_string().parse(), Ok(placement));
    }
}

proptest! {
    #[test]
    fn only_an_ejected_servers_keys_move_and_they_come_back(
        placement in prop::sample::select(Placement::ALL.to_vec()),
        size in 2..9_usize,
        ejected: prop::sample::Index,
        keys in prop::collection::vec("[!-~é☃]{1,40}", 1..60),
    ) {
        let servers = (0..size).map(|at| Server::new(format!("10.1.0.{at}"), 11_211 + at as u16 % 2));
        let whole = Ring::new(placement, servers).unwrap();
        let ejected = ejected.index(size);
        let mut ring = whole.clone();
        ring.eject(ejected);
        for key in &keys {
            let (before, after) = (whole.owner(key.as_bytes()), ring.owner(key.as_bytes()));
            prop_assert!(before.is_some() && after != Some(ejected));
            // The weighted ring gives everyone a new number of points where rounding falls
            // otherwise, so a few keys of the living may move too; `auto_eject` does the same.
            if before != Some(ejected) && placement != Placement::KetamaWeighted {
                prop_assert_eq!(before, after);
            }
            if placement == Placement::Modula && before == Some(ejected) {
                prop_assert_eq!(after, None);
            }
        }
        ring.restore(ejected);
        for key in &keys {
            prop_assert_eq!(whole.owner(key.as_bytes()), ring.owner(key.as_bytes()));
        }
        (0..size).for_each(|server| ring.eject(server));
        prop_assert!(keys.iter().all(|key| ring.owner(key.as_bytes()).is_none()));
    }

    #[test]
    fn many_keys_have_the_owners_that_each_has(
        placement in prop::sample::select(Placement::ALL.to_vec()),
        keys in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..70), 0..40),
    ) {
        let servers = (0..5).map(|at| Server::new(format!("10.1.0.{at}"), 11_211));
        let ring = Ring::new(placement, servers).unwrap();
        let each: Vec<_> = keys.iter().map(|key| ring.owner(key)).collect();
        prop_assert_eq!(ring.owners(keys.iter().map(Vec::as_slice)), each);
    }

    #[test]
    fn any_bytes_have_an_owner(
        placement in prop::sample::select(Placement::ALL.to_vec()),
        weights in prop::collection::vec(1..6_u32, 1..8),
        key: Vec<u8>,
    ) {
        let servers = weights.iter().map(|weight| Server::new("cache.local", 11_300).weight(*weight));
        let ring = Ring::new(placement, servers).unwrap();
        prop_assert!(ring.owner(&key).is_some_and(|owner| owner < weights.len()));
    }
}

fn column_of(column: &str) -> (Placement, &str) {
    let (client, rest) = column.split_once('/').expect("the vectors are well formed");
    match client {
        "pymemcache_hashclient_rendezvous" => (Placement::Rendezvous, rest),
        "python-memcached" => (Placement::Crc, rest),
        "pylibmc" => {
            let (fleet, mode) = rest.split_once('/').expect("the vectors are well formed");
            let placement = match mode {
                "default_modula" => Placement::Modula,
                "ketama" => Placement::Ketama,
                "ketama_hash_md5" => Placement::KetamaMd5,
                "ketama_weighted" => Placement::KetamaWeighted,
                other => panic!("an unknown mode `{other}`"),
            };
            (placement, fleet)
        }
        other => panic!("an unknown client `{other}`"),
    }
}

fn fleet_of(servers: &Value) -> Vec<Server> {
    let read = |server: &Value| {
        let parts: Vec<&str> = text(server).split(':').collect();
        Server::new(parts[0], parts[1].parse().expect("the vectors are well formed"))
            .weight(parts[2].parse().expect("the vectors are well formed"))
    };
    servers.as_array().expect("the vectors are well formed").iter().map(read).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("the vectors are well formed")
}
