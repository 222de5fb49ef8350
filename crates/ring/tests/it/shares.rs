//! How evenly the placements divide keys: what one server of five takes along when it dies.

use throng_ring::{Placement, Ring, Server};

#[test]
fn one_server_of_five_owns_a_fifth_except_on_a_circle_of_few_points() {
    for (placement, least, most) in [
        (Placement::Modula, 0.19, 0.21),
        (Placement::Rendezvous, 0.19, 0.21),
        (Placement::Crc, 0.19, 0.21),
        // 160 and 100 points a server: the clients' own circles are no evener.
        (Placement::KetamaWeighted, 0.16, 0.26),
        (Placement::Ketama, 0.14, 0.26),
        (Placement::KetamaMd5, 0.14, 0.26),
    ] {
        let mut shares = Vec::new();
        for fleet in 0..8 {
            let servers = (0..5).map(|at| Server::new(format!("10.{fleet}.0.{at}"), 11_211));
            let ring = Ring::new(placement, servers).unwrap();
            let mut owned = [0; 5];
            for key in 0..20_000 {
                owned[ring.owner(format!(":1:event:{key}").as_bytes()).unwrap()] += 1;
            }
            for keys in owned {
                let share = f64::from(keys) / 20_000.0;
                assert!((least..=most).contains(&share), "{placement}: {share} in fleet {fleet}");
                shares.push(100.0 * share);
            }
        }
        let average = shares.iter().sum::<f64>() / shares.len() as f64;
        assert!((average - 20.0).abs() < 1e-6, "{placement}: {average}");
        shares.sort_by(f64::total_cmp);
        println!(
            "{placement}: one server of five owns {:.1} to {:.1} % of the keys, on average {average:.1} %",
            shares[0],
            shares[shares.len() - 1]
        );
    }
}
