//! Routers that speak PCP or NAT-PMP, or nothing.

use super::bench::{Bench, Gateway, at, network};
use crate::portmap::*;

const ROUTER: [u8; 4] = [10, 0, 0, 1];

#[test]
fn a_router_of_pcp_maps_both_ports_and_is_asked_again_at_two_thirds_of_the_lease() {
    let mut bench = Bench::new(vec![Gateway::pcp(ROUTER)]);
    bench.begin(&[network(1)]);
    bench.run(at(2_399_000));
    assert_eq!(bench.mapped(), ["pcp tcp 6881", "pcp udp 6881"]);
    assert_eq!(bench.sent(), [(0, [2, 1]), (10, [2, 1])]);
    bench.run(at(2_401_000));
    assert_eq!(bench.sent().len(), 4);
    assert_eq!(bench.mapped().len(), 2, "what changes nothing is not told");
    let PortMapOutput::Mapped(mapping) = bench
        .outputs
        .iter()
        .map(|(_, output)| output)
        .find(|output| matches!(output, PortMapOutput::Mapped(_)))
        .unwrap()
    else {
        panic!()
    };
    assert_eq!(mapping.external_ip, Some([203, 0, 113, 9].into()));
    assert_eq!((mapping.lifetime, mapping.is_router), (Some(Duration::from_secs(3600)), true));
}

#[test]
fn a_router_of_nat_pmp_is_understood_whether_it_knows_of_pcp_or_not() {
    for is_polite in [true, false] {
        let mut bench = Bench::new(vec![Gateway { is_polite, ..Gateway::nat_pmp(ROUTER) }]);
        bench.begin(&[network(1)]);
        bench.run(at(1_000));
        assert_eq!(bench.mapped(), ["nat-pmp tcp 6881", "nat-pmp udp 6881"]);
        let kinds: Vec<[u8; 2]> = bench.sent().into_iter().map(|(_, kind)| kind).collect();
        assert_eq!(kinds, [[2, 1], [0, 0], [0, 2], [0, 1]]);
        assert_eq!(bench.gateways[0].mappings.len(), 2);
    }
}

#[test]
fn a_silent_router_is_asked_nine_times_and_told_of_once() {
    let mut bench = Bench::new(Vec::new());
    bench.begin(&[network(1)]);
    bench.run(at(127_000));
    let times: Vec<u64> = bench.sent().into_iter().map(|(when, _)| when).collect();
    assert_eq!(times, [0, 250, 750, 1750, 3750, 7750, 15750, 31750, 63750]);
    assert_eq!(bench.sent()[..4].iter().map(|(_, [version, _])| *version).collect::<Vec<_>>(), [2, 0, 2, 0]);
    assert!(bench.failures().is_empty());
    bench.run(at(4_000_000));
    let expected = ["nat-pmp: it does not answer", "upnp: no gateway answers on the network of 10.0.0.7"];
    assert_eq!(bench.failures(), expected);
    assert_eq!(bench.sent().len(), 36, "and again every quarter of an hour");
}

#[test]
fn a_router_where_nothing_listens_is_not_asked_again_before_a_quarter_of_an_hour() {
    let mut bench = Bench::new(Vec::new());
    bench.begin(&[network(1)]);
    bench.run(at(5));
    bench.mapper.handle(bench.now, PortMapInput::Unreachable(network(1)));
    bench.run(at(900_000));
    assert_eq!(bench.sent().len(), 1);
    assert_eq!(bench.failures()[0], "nat-pmp: it does not take part in port mapping");
    bench.gateways.push(Gateway::pcp(ROUTER));
    bench.run(at(901_000));
    assert_eq!(bench.mapped().len(), 2);
}

#[test]
fn a_refusal_is_told_and_the_port_is_asked_for_again_later() {
    for (gateway, expected) in [
        (
            Gateway { refuses: Some(2), ..Gateway::nat_pmp(ROUTER) },
            "nat-pmp: it is not allowed there (result code 2)",
        ),
        (
            Gateway { refuses: Some(8), ..Gateway::pcp(ROUTER) },
            "pcp: the gateway has no port left (result code 8)",
        ),
        (Gateway { refuses: Some(99), ..Gateway::pcp(ROUTER) }, "pcp: result code 99"),
    ] {
        let mut bench = Bench::new(vec![gateway]);
        bench.begin(&[network(1)]);
        bench.run(at(1_000));
        assert_eq!(bench.failures(), [expected, expected], "of TCP and of UDP");
        bench.gateways[0].refuses = None;
        bench.run(at(901_000));
        assert_eq!(bench.mapped().len(), 2);
    }
}

#[test]
fn another_port_outside_is_taken_as_it_is_given_and_wished_for_the_other_protocol_too() {
    for gateway in [Gateway::nat_pmp(ROUTER), Gateway::pcp(ROUTER)] {
        let mut bench = Bench::new(vec![Gateway { taken: vec![6881], ..gateway }]);
        bench.begin(&[network(1)]);
        bench.run(at(1_000));
        assert_eq!(bench.ports(), (Some(6882), Some(6882)));
        // The lease is for that port.
        bench.gateways[0].taken.clear();
        bench.run(at(2_500_000));
        assert_eq!(bench.ports(), (Some(6882), Some(6882)));
    }
}

#[test]
fn a_router_that_has_forgotten_the_mappings_is_asked_for_all_of_them() {
    for gateway in [Gateway::nat_pmp(ROUTER), Gateway::pcp(ROUTER)] {
        // So that the renewals are not at the same time.
        let mut bench = Bench::new(vec![Gateway { seconds: 600, ..gateway }]);
        bench.begin(&[network(1)]);
        bench.run(at(1_000));
        bench.gateways[0].seconds = 7200;
        bench.run(at(500_000));
        bench.gateways[0].mappings.clear();
        bench.gateways[0].born = 500;
        // The renewal of one of them tells.
        bench.mapper.routers[0].make_due(bench.now);
        bench.run(at(501_000));
        assert_eq!(bench.gateways[0].mappings.len(), 2);
    }
}

#[test]
fn a_short_refusal_says_nothing_of_the_age_of_a_router() {
    let mut bench = Bench::new(vec![Gateway::nat_pmp(ROUTER)]);
    bench.begin(&[network(1)]);
    bench.run(at(1_000));
    bench.gateways[0].silent = true;
    bench.mapper.routers[0].make_due(bench.now + Duration::from_secs(600));
    bench.run(at(601_005));
    bench.mapper.handle(
        bench.now,
        PortMapInput::Packet { network: network(1), data: &[0, 128, 0, 0, 0, 0, 2, 89, 1, 1, 1, 1] },
    );
    bench.run(at(601_010));
    let before = bench.sent().len();
    bench.mapper.handle(bench.now, PortMapInput::Packet { network: network(1), data: &[0, 130, 0, 4] });
    bench.run(at(602_000));
    assert_eq!(bench.sent().len(), before, "the other mapping is not asked for");
}

#[test]
fn a_router_that_is_always_younger_than_before_is_not_asked_in_a_circle() {
    let mut bench = Bench::new(vec![Gateway { seconds: 1, ..Gateway::pcp(ROUTER) }]);
    bench.begin(&[network(1)]);
    for second in 1..600 {
        bench.gateways[0].born = second;
        bench.run(at(second * 1000));
    }
    assert!(
        bench.sent().len() <= 2 * 21,
        "a lease of a second is renewed twice a minute: {}",
        bench.sent().len()
    );
}

#[test]
fn a_mapping_that_is_not_renewed_is_lost_and_had_again() {
    let mut bench = Bench::new(vec![Gateway::pcp(ROUTER)]);
    bench.begin(&[network(1)]);
    bench.run(at(1_000));
    bench.gateways[0].silent = true;
    bench.run(at(2_600_000));
    assert_eq!(bench.ports(), (None, None));
    assert!(bench.failures().contains(&"pcp: it does not answer".to_owned()));
    bench.gateways[0].silent = false;
    bench.run(at(3_600_000));
    assert_eq!(bench.mapped().len(), 4);
}

#[test]
fn a_router_that_fell_silent_is_asked_at_the_end_in_the_words_that_it_knows() {
    let mut bench = Bench::new(vec![Gateway { is_polite: false, ..Gateway::nat_pmp(ROUTER) }]);
    bench.begin(&[network(1)]);
    bench.run(at(5_000));
    assert_eq!(bench.gateways[0].mappings.len(), 2);
    bench.gateways[0].silent = true;
    // A renewal that nobody answers, nine times.
    bench.run(at(2_400_000 + 300_000));
    assert!(bench.failures().iter().any(|told| told.contains("does not answer")), "{:?}", bench.failures());
    bench.gateways[0].silent = false;
    bench.want(false);
    bench.run(at(2_702_000));
    assert!(bench.mapper.has_ended());
    assert_eq!(bench.gateways[0].mappings, []);
}

#[test]
fn at_the_end_all_is_removed_and_who_is_silent_is_not_waited_for_long() {
    for gateway in [Gateway::nat_pmp(ROUTER), Gateway::pcp(ROUTER)] {
        let mut bench = Bench::new(vec![gateway]);
        bench.begin(&[network(1)]);
        bench.run(at(1_000));
        bench.want(false);
        assert!(!bench.mapper.has_ended());
        bench.run(at(1_100));
        assert!(bench.mapper.has_ended());
        assert_eq!((bench.gateways[0].removed.len(), bench.gateways[0].mappings.len()), (2, 0));

        bench.want(true);
        bench.run(at(2_000));
        assert_eq!(bench.gateways[0].mappings.len(), 2);
        bench.gateways[0].silent = true;
        bench.want(false);
        bench.run(at(2_000) + FAREWELL);
        assert!(bench.mapper.has_ended());
    }
    // One that has never answered gets a packet for what it may have mapped, and nobody waits.
    let mut bench = Bench::new(Vec::new());
    bench.begin(&[network(1)]);
    bench.run(at(400));
    bench.want(false);
    bench.run(at(400));
    assert!(bench.mapper.has_ended());
    assert_eq!(bench.sent(), [(0, [2, 1]), (250, [0, 0]), (400, [2, 1])]);
}

#[test]
fn an_answer_to_what_was_not_asked_is_ignored() {
    let mut bench = Bench::new(Vec::new());
    bench.begin(&[network(1)]);
    bench.run(at(5));
    let asked = bench.outputs.iter().find_map(|(_, output)| match output {
        PortMapOutput::Send { data, .. } => Some(data.clone()),
        _ => None,
    });
    let mut answer = asked.unwrap();
    answer[1] = 0x81;
    answer[8..24].fill(0);
    // Another nonce, protocol, port; a request.
    for (place, value) in [(24, 0xee), (36, 17), (41, 1), (1, 1)] {
        let mut wrong = answer.clone();
        wrong[place] ^= value;
        bench.mapper.handle(bench.now, PortMapInput::Packet { network: network(1), data: &wrong });
        bench.mapper.handle(bench.now, PortMapInput::Packet { network: network(2), data: &answer });
    }
    bench.run(at(100));
    assert!(bench.mapped().is_empty());
    bench.mapper.handle(bench.now, PortMapInput::Packet { network: network(1), data: &answer });
    bench.run(at(110));
    assert_eq!(bench.mapped().len(), 1);
}
